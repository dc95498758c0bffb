"""LlamaIndex's adapters of query vectors, trained on the same pairs as an upgrade.

The layers and the recipe are LlamaIndex's (package llama-index-embeddings-adapter, `EmbeddingAdapterFinetuneEngine`):
in-batch cross-entropy of cosines times 20, AdamW, batches of 10, a tenth of the steps to warm up. Here vectors are
computed once, and learning rate and checkpoint are chosen on validation pairs (LlamaIndex's rate of 2e-5 is one of
them). An adapter sees the query's vector, codes see the outputs of all its tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from llama_index.embeddings.adapter import LinearLayer
from llama_index.embeddings.adapter.utils import TwoLayerNN
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from polyencoders.data import Example
from polyencoders.encoders.protocols import Advance, Vectors, ignore
from polyencoders.encoders.ranking import VectorRanking

RATES = (2e-5, 2e-4, 2e-3)
BATCH = 10
SCALE = 20.0
VALIDATIONS = 8


def layer(kind: str, dimension: int) -> nn.Module:
    """A new adapter: `linear`, or `two layers` with 1,024 hidden units and a residual connection."""
    if kind == "linear":
        return LinearLayer(dimension, dimension, bias=True)
    return TwoLayerNN(dimension, 1024, dimension, bias=True, add_residual=True)


class Adapted(VectorRanking):
    """A bi-encoder whose query vectors go through an adapter."""

    def __init__(self, model: Any, adapter: nn.Module) -> None:
        self.model, self.adapter, self.temperature = model, adapter, model.temperature
        self.similarity = model.similarity

    @torch.inference_mode()
    def encode_query(self, queries: Sequence[Any], **options: Any) -> Tensor:
        """Vectors `(q, d)` of length 1, so that similarities are cosines."""
        vectors = self.model.encode_query(queries, convert_to_tensor=True, show_progress_bar=False)
        return nn.functional.normalize(self.adapter(vectors), dim=-1)

    def encode_queries(self, queries: Sequence[Any], advance: Advance = ignore) -> Vectors:
        """The same vectors as codes, `(q, 1, d)`."""
        return self.encode_query(queries)[:, None].numpy()

    def encode_documents(self, texts: Sequence[str], bf16: bool | None = None, advance: Advance = ignore) -> Vectors:
        return self.model.encode_documents(texts, bf16, advance)


def train_adapter(kind: str, model: Any, examples: Sequence[Example], chooser: Any, steps: int, seed: int) -> Adapted:
    """The adapter with the best validation measure over rates and checkpoints, which may be the untrained one."""
    torch.manual_seed(seed)
    pairs = [(example.query, positive) for example in examples for positive in example.positives]
    queries = model.encode_query([list(query) for query, _ in pairs], convert_to_tensor=True, show_progress_bar=False)
    documents = model.encode_document([text for _, text in pairs], convert_to_tensor=True, show_progress_bar=False)
    queries, documents = queries.clone(), documents.clone()
    best, best_value = layer(kind, queries.shape[1]), -1.0
    for rate in RATES:
        adapter = layer(kind, queries.shape[1])
        optimizer = torch.optim.AdamW(adapter.parameters(), lr=rate)
        schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
        generator = torch.Generator().manual_seed(seed)
        for step in range(steps):
            chosen = torch.randint(len(pairs), (min(BATCH, len(pairs)),), generator=generator)
            scores = SCALE * _cosines(adapter(queries[chosen]), documents[chosen])
            loss = nn.functional.cross_entropy(scores, torch.arange(len(chosen)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if (step + 1) % max(1, steps // VALIDATIONS) == 0:
                value = chooser(Adapted(model, adapter))[chooser.primary_metric]
                if value > best_value:
                    best, best_value = copy.deepcopy(adapter), value
    return Adapted(model, best)


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    return nn.functional.normalize(left, dim=-1) @ nn.functional.normalize(right, dim=-1).T
