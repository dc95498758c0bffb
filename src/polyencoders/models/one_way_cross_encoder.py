"""A cross-encoder whose documents read the query while the query reads nobody: one reading serves all candidates.

It is a `WarmCrossEncoder` with one more limit to who sees whom. What a document needs of the query, its keys and values
in every layer, depends on the query alone, so that for each pair only the document's words are computed.
"""

from typing import Any, cast

import numpy as np
import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from polyencoders.encoders.batches import batches
from polyencoders.encoders.queries import Query
from polyencoders.encoders.ranking import distinct, progress
from polyencoders.errors import ModelError
from polyencoders.models.reading_attention import READING, Memory, Reading
from polyencoders.models.warm_cross_encoder import ScoreOfSides, WarmCrossEncoder, padded

TOKENS_AT_ONCE = 1024
"""Tokens of documents of like length that a processor reads in one pass, padding included; a GPU reads 64 times as
many."""


class OneWayCrossEncoder(WarmCrossEncoder):
    """`score = red(T(query)) . red(T(document | query))`: a document is encoded in sight of the query.

    In every layer a word of the query attends to the query, as in a bi-encoder, and a word of a document to both texts:

        softmax_j(q_i . k_j / sqrt(d) + g_ij)   g_ij = 0 within a text, `cross_bias` from document to query,
                                                       minus infinity from query to document

    The lower the bias, the nearer the score is to the bi-encoder's. No weights are added to the backbone's.
    (Uni-Encoder, Song et al. 2023, reads a query once for several documents too, in one sequence with them.)

    Parameters
    ----------
    model_name_or_path
        A saved `OneWayCrossEncoder`, or a backbone: an encoder that was made to embed gains most by it.
    cross_bias, query_length, document_length, turn_separator, **cross_encoder_arguments
        As for `WarmCrossEncoder`.

    Raises
    ------
    ModelError
        A directory of another architecture, settings that contradict a saved model, damaged weights; a backbone whose
        attention cannot be given the words of another text (it says so).
    """

    summary = (
        "The query is read once, and every document in sight of it, from a bi-encoder's start: each text is reduced to "
        "one vector, and the score is their inner product."
    )

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        properties = super().card_properties()
        bias = properties.pop("Bias of the attention between them")
        told = "inner product of the query's vector and the document's, which has seen the query"
        return {**properties, "Score": told, "Bias of the attention from document to query": bias}

    def _features(self, queries: list[list[int]], places: list[int], documents: list[list[int]]) -> dict[str, Any]:
        """Make features: each distinct query once, all documents, and the query that each is read with.

        They are `query_ids`, `query_mask (q, t)`, `document_ids`, `document_mask (n, t)` and `query_of (n,)`.
        """
        features = {"query_of": torch.tensor(places)}
        for side, rows in (("query", queries), ("document", documents)):
            features[f"{side}_ids"] = padded(rows, self._padding)
            features[f"{side}_mask"] = padded([[1] * len(row) for row in rows], 0)
        return features

    def forward(self, input: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Turn features into `scores (n, 1)`: the queries are read once, then documents of like length together."""
        queries, memory = self.read(input["query_ids"], input["query_mask"])
        device, lengths = queries.device, input["document_mask"].sum(1).tolist()
        tokens_at_once = TOKENS_AT_ONCE * (1 if device.type == "cpu" else 64)
        order: list[int] = []
        scores = []
        for places in batches(lengths, tokens_at_once):
            rows, width = torch.tensor(places, device=device), lengths[places[0]]
            ids, mask = (input[f"document_{name}"][rows, :width] for name in ("ids", "mask"))
            query_of = input["query_of"][rows]
            documents, _ = self.read(ids, mask, memory.of(query_of))
            scores.append((queries[query_of] * documents).sum(-1, keepdim=True))
            order += places
        input["scores"] = torch.cat(scores)[torch.tensor(order, device=device).argsort()]
        return input

    def read(self, ids: Tensor, mask: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Encode texts.

        Parameters
        ----------
        ids, mask
            Of queries, or of documents: `(n, t)`, the mask 1 for words and 0 for padding.
        memory
            For documents: what was kept of the one query that all of them read, or of one for each.

        Returns
        -------
        torch.Tensor, Memory
            Vectors `(n, d)`, and what is kept of the texts.
        """
        reading = Reading(memory, self.cross_bias)
        outputs = self._transformer.model(input_ids=ids, attention_mask=mask, reading=reading)[0]
        return cast(ScoreOfSides, self[1]).vector(outputs, mask), Memory(reading.layers, mask)

    def _predict_distinct(
        self,
        pairs: list[tuple[Query, str]],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **keywords: Any,
    ) -> Any:
        """Score distinct pairs. All documents of a query are in one batch, so that it is read once.

        A batch has `batch_size` pairs at least, where there are as many; `forward` makes smaller ones of it.
        """
        _, query_of = distinct([query for query, _ in pairs])
        order = np.argsort(query_of, kind="stable").tolist()
        starts = [0]
        for place in range(1, len(order)):
            if place - starts[-1] >= batch_size and query_of[order[place]] != query_of[order[place - 1]]:
                starts.append(place)
        scores = []
        with progress(len(pairs), bool(show_progress_bar)) as advance:
            for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
                some = [pairs[place] for place in order[start:stop]]
                options = {"batch_size": max(batch_size, len(some)), "convert_to_tensor": True, **keywords}
                scores.append(super()._predict_distinct(some, prompt_name, prompt, show_progress_bar=False, **options))
                advance(len(some))
        found = torch.cat(scores)[np.argsort(order)]
        if convert_to_tensor:
            return found
        return found.float().cpu().numpy() if convert_to_numpy else list(found)

    def _load(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        modules, kept = super()._load(name, config, arguments)
        cast(Transformer, modules[0]).model.set_attn_implementation(READING)  # no part of what transformers saves
        return modules, kept

    @torch.no_grad()
    def _learnt_of(self, transformer: Transformer) -> dict[str, Any]:
        """Refuse a backbone whose attention does not ask the function that transformers has for it."""
        model, reading = transformer.model, Reading()
        ids = torch.tensor(cast(Any, transformer.tokenizer)(["a few words"])["input_ids"])
        try:
            model.set_attn_implementation(READING)
            model(input_ids=ids, attention_mask=torch.ones_like(ids), reading=reading)
        except (TypeError, ValueError, RuntimeError):
            pass  # a model that takes no such argument, or no such attention
        if reading.layers:
            return {}
        raise ModelError(
            f"a {type(model).__name__} cannot be given the words of another text in its attention, so that a one-way "
            "cross-encoder cannot be built on it: use a WarmCrossEncoder (cross-warm), or another backbone"
        )
