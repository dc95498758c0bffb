"""Attempts to make documents choose among the codes of a query: losses, an annealed temperature, further layers.

After ordinary training each document attends to all codes nearly alike, so that one vector would be enough. These are
proposals for other models of several vectors, applied to codes. `quality.py --group attention` measures them in the
rows `poly-4, ...`. None helped, so none is in the library.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn
from torch.nn import functional
from transformers import TrainerCallback

from polyencoders.encoders.ranking import distinct
from polyencoders.models.dual import router
from polyencoders.scoring.torch_score import code_weights, present_codes
from polyencoders.training.losses import InBatchCrossEntropy

WEIGHT = 0.1
"""The weight of the losses below in the sum with the cross-entropy."""


class _WithWeights(InBatchCrossEntropy):
    """The cross-entropy over the batch, and a term in the weights `(q, n, m)` that documents give to codes."""

    def calculate_loss(self, reps: list[list[Tensor]], labels: Tensor | None = None, **options: Any) -> Tensor:
        loss = super().calculate_loss(reps, labels, **options)
        codes, documents = torch.cat(reps[0]).float(), torch.cat(reps[1]).float()
        with torch.autocast(codes.device.type, enabled=False):
            inner = torch.einsum("qmd,nd->qnm", codes, documents)
            weights = code_weights(inner, present_codes(codes)[:, None], self.model.temperature)
            return loss + WEIGHT * self.of_weights(weights)

    def of_weights(self, weights: Tensor) -> Tensor:
        raise NotImplementedError


class MutualInformation(_WithWeights):
    """`E_pairs[H(w)] - H(E_pairs[w])`: each pair chooses a code, and all codes are chosen equally often.

    Ding and Zhai, Retrieval with Learned Similarities, WWW 2025 (arXiv 2407.15462), for a mixture of logits.
    """

    def of_weights(self, weights: Tensor) -> Tensor:
        return _entropy(weights).mean() - _entropy(weights.mean(dim=(0, 1)))


class LocalLoss(_WithWeights):
    """`-log max_i w_i` of each right pair: one code fits the document, and the others do not.

    MVR, Zhang et al., ACL 2022 (arXiv 2203.08372). There a document has several vectors, here a query.
    """

    def of_weights(self, weights: Tensor) -> Tensor:
        return -weights.diagonal().T.amax(dim=-1).clamp_min(1e-12).log().mean()


def _entropy(weights: Tensor) -> Tensor:
    return -(weights * weights.clamp_min(1e-12).log()).sum(-1)


LOSSES = {"mutual information": MutualInformation, "local": LocalLoss}


class Annealing(TrainerCallback):
    """The temperature of the softmax over the codes falls from 1 to the model's own during the first half of training.

    It is `max(last, exp(-r t))`, as in MVR. Validation is at the model's own temperature.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.last = model, model.temperature

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        progress = state.global_step / (0.5 * state.max_steps)
        self.model.saved_settings["temperature"] = max(self.last, math.exp(progress * math.log(self.last)))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.model.saved_settings["temperature"] = self.last


class _AfterCodes(Module):
    """A layer whose output is added to the codes `(b, m, d)`; it starts as zero."""

    config_keys: list[str] = ["dimension"]  # noqa: RUF012 as in the base class

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        features["sentence_embedding"] = features["sentence_embedding"] + self.added(features["sentence_embedding"])
        return features

    def added(self, codes: Tensor) -> Tensor:
        raise NotImplementedError

    def get_embedding_dimension(self) -> int:
        return self.dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> Self:
        module = cls(**cls.load_config(model_name_or_path, subfolder=subfolder))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module)


class Mlp(_AfterCodes):
    """A hidden layer of twice the width, for each code."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.layers = nn.Sequential(nn.Linear(dimension, 2 * dimension), nn.GELU(), _zeros(2 * dimension, dimension))

    def added(self, codes: Tensor) -> Tensor:
        return self.layers(codes)


class SelfAttention(_AfterCodes):
    """One head of attention over the codes of a query."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.read = nn.Linear(dimension, 3 * dimension)
        self.write = _zeros(dimension, dimension)

    def added(self, codes: Tensor) -> Tensor:
        return self.write(functional.scaled_dot_product_attention(*self.read(codes).chunk(3, dim=-1)))


class ScaledTogether(_AfterCodes):
    """Codes divided by the length of their mean, instead of each by its own length: a longer code keeps its weight.

    At a high temperature the score is then that of `bi-attention`.
    """

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        codes = features["sentence_embedding"]
        number = present_codes(codes).sum(-1).clamp_min(1)[:, None, None]
        features["sentence_embedding"] = codes / (codes.sum(1, keepdim=True) / number).norm(dim=-1, keepdim=True)
        return features


class KeysAndValues(ScaledTogether):
    """The first half of the codes are keys, the second half values, as in ordinary attention.

    `w = softmax(k_i . c / temperature)`, `score = sum_i w_i (v_i . c)`: a wrong document does not get the code that
    suits it best.
    """

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        keys, values = features["sentence_embedding"].chunk(2, dim=1)
        features = super().forward({**features, "sentence_embedding": values})
        keys = functional.normalize(keys, dim=-1)
        features["sentence_embedding"] = torch.cat([keys, features["sentence_embedding"]], dim=1)
        return features


def _score_of_keys_and_values(model: Any, queries: Any, documents: Any) -> Tensor:
    codes, vectors = model._vectors(queries, documents)
    keys, values = torch.einsum("qmd,nd->qnm", codes.float(), vectors.float()).chunk(2, dim=-1)
    return ((keys / model.temperature).softmax(-1) * values).sum(-1)


def _score_lists_of_keys_and_values(model: Any, queries: Any, documents: Any, *args: Any, **options: Any) -> list[Any]:
    codes = model.encode_queries(queries)
    texts, places = distinct([text for listed in documents for text in listed])
    vectors = model.encode_documents(texts, bf16=False)
    rows = np.split(np.array(places), np.cumsum([len(listed) for listed in documents])[:-1])
    scored = [_score_of_keys_and_values(model, one[None], vectors[row]) for one, row in zip(codes, rows, strict=True)]
    return [scores[0].numpy() for scores in scored]


def _zeros(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


LAYERS = {"MLP": Mlp, "self-attention": SelfAttention, "scaled together": ScaledTogether, "keys": KeysAndValues}


def put_after_codes(model: Any, layer: str) -> None:
    """Put one of `LAYERS` after the codes, before their normalisation, or instead of it if the layer scales them."""
    query_side, document_side = list(model.route("query")), list(model.route("document"))
    place = query_side.index(model.query_codes) + 1
    replaced = int(issubclass(LAYERS[layer], ScaledTogether))
    query_side[place : place + replaced] = [LAYERS[layer](model.query_codes.embedding_dimension).to(model.device)]
    shared = model.shared_tower
    model[len(model) - 1] = router(query_side[shared:], document_side[shared:])
    if layer == "keys":
        model.similarity = partial(_score_of_keys_and_values, model)
        model.score_lists = partial(_score_lists_of_keys_and_values, model)
