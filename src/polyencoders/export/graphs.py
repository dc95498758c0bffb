"""The whole of a model in one graph: token ids in; query codes, document vectors or scores out."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyencoders.encoders.queries import DOCUMENT, PADDING, QUERY
from polyencoders.errors import ModelError
from polyencoders.models import ArcII, CrossEncoder, DualEncoder, OneWayCrossEncoder, QueryCodes, WarmCrossEncoder
from polyencoders.models.reading_attention import Memory

OPSET = 17
"""Version of the operators: the first with layer normalisation, which ONNX Runtime has had since 1.12."""


class Sides(nn.Module):
    """One tower and what follows it on one side, or on both where they share the tower.

    Gives query codes `(q, m, d)`, document vectors `(n, d)`, and the share of each token in each code `(q, m, t)`.
    """

    def __init__(self, model: DualEncoder, sides: Sequence[str]) -> None:
        super().__init__()
        self.sides = list(sides)
        routes: dict[str, Any] = {side: list(model.route(side)) for side in sides}  # type: ignore[arg-type]
        self.transformer = _bare(routes[self.sides[0]][0])
        self.heads: Any = nn.ModuleDict({side: nn.ModuleList(route[1:]) for side, route in routes.items()})
        self.reads_codes = model.has_query_codes and "query" in sides
        # The type of every token of a single text is 0, which is not for every backbone the same as no type.
        accepted = inspect.signature(self.transformer.forward).parameters
        self.has_types = "token_type_ids" in model.tokenizer.model_input_names and "token_type_ids" in accepted

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Token ids to what each side makes of them."""
        types = {"token_type_ids": torch.zeros_like(input_ids)} if self.has_types else {}
        outputs = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        found: list[Tensor] = []
        for side in self.sides:
            features: dict[str, Any] = {"token_embeddings": outputs, "attention_mask": attention_mask}
            for module in self.heads[side]:
                features = module(features)
            vectors = features["sentence_embedding"]
            found.append(vectors[:, None] if side == "query" and vectors.ndim == 2 else vectors)
        if self.reads_codes:
            codes = next(module for module in self.heads["query"] if isinstance(module, QueryCodes))
            found.append(codes.attention(outputs, attention_mask.bool()))
        return tuple(found)


class Pair(nn.Module):
    """A cross-encoder: one sequence in, its score out, after the model's own activation."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        transformer, *rest = list(model.children())
        self.transformer, self.rest = _bare(transformer), nn.ModuleList(rest)
        self.activation: Any = model.activation_fn

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Token ids to scores `(b,)`."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        scores: Tensor = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types)[0]
        if len(self.rest):
            features: dict[str, Any] = {"token_embeddings": scores, "attention_mask": attention_mask}
            for module in self.rest:
                features = module(features)
            scores = features["scores"]
        found: Tensor = self.activation(scores)[:, 0]
        return found


class WarmPair(nn.Module):
    """A cross-encoder with a warm start: `softmax_j(q_i . k_j / sqrt(d) + g_ij)` in every layer, and two reductions."""

    def __init__(self, model: WarmCrossEncoder) -> None:
        super().__init__()
        transformer, score = list(model.children())
        self.transformer = _bare(transformer)
        self.score: Any = score
        self.bias = model.cross_bias
        self.activation: Any = model.activation_fn

    def forward(self, input_ids: Tensor, position_ids: Tensor, sides: Tensor) -> Tensor:
        """Token ids to scores `(b,)`."""
        least = torch.finfo(torch.float32).min
        apart = sides[:, :, None] != sides[:, None, :]
        mask = torch.where(apart, max(self.bias, least), 0.0)
        mask = torch.where((sides == PADDING)[:, None, :], least, mask)[:, None]
        outputs = self.transformer(input_ids=input_ids, position_ids=position_ids, attention_mask=mask)[0]
        query, document = (self._reduced(outputs, sides == side) for side in (QUERY, DOCUMENT))
        found: Tensor = self.activation((query * document).sum(-1))
        return found

    def _reduced(self, outputs: Tensor, mask: Tensor) -> Tensor:
        ones = mask.long()
        if self.score.reduction == "first":
            vector = (outputs * (ones * (ones.cumsum(1) == 1).long())[..., None]).sum(1)
        else:
            vector = self.score.reduce({"token_embeddings": outputs, "attention_mask": ones})["sentence_embedding"]
        reduced: Tensor = functional.normalize(vector, dim=-1) if self.score.normalize else vector
        return reduced


class OneWay(nn.Module):
    """A text in sight of one query: a document, or a query itself, in sight of nothing.

    The query is given by its vector, a mask of its words, and its keys and values of each layer. What reads a query
    gives one word that is masked.
    """

    def __init__(self, model: OneWayCrossEncoder) -> None:
        super().__init__()
        self.model = model
        self.activation: Any = model.activation_fn

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        query: Tensor,
        query_mask: Tensor,
        query_keys: Tensor,
        query_values: Tensor,
    ) -> tuple[Tensor, ...]:
        """Scores `(n,)`, vectors `(n, d)`, keys and values `(layers, n, heads, t, d)` of texts `(n, t)`.

        The query's vector and mask are `(1, d)` and `(1, q)`, its keys and values `(layers, heads, q, d)`.
        """
        layers = [(query_keys[i][None], query_values[i][None]) for i in range(query_keys.shape[0])]
        vectors, kept = self.model.read(input_ids, attention_mask, Memory(layers, query_mask))
        scores = self.activation((query * vectors).sum(-1))
        return scores, vectors, *(torch.stack(part) for part in zip(*kept.layers, strict=True))


class Interaction(nn.Module):
    """ARC-II: the ids of both texts, padded to fixed lengths."""

    def __init__(self, model: ArcII) -> None:
        super().__init__()
        (self.module,) = list(model.children())
        self.activation: Any = model.activation_fn

    def forward(self, query_ids: Tensor, query_mask: Tensor, document_ids: Tensor, document_mask: Tensor) -> Tensor:
        """Token ids to scores `(b,)`."""
        features = {
            "query_ids": query_ids,
            "query_mask": query_mask,
            "document_ids": document_ids,
            "document_mask": document_mask,
        }
        found: Tensor = self.activation(self.module(features)["scores"])[:, 0]
        return found


def write_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, dict[int, str]],
    file: Path,
    others: Mapping[str, dict[int, str]] | None = None,
) -> None:
    """Write a module as an ONNX graph.

    Parameters
    ----------
    module
        One of the above.
    inputs
        An example of each input, in order: `(b, t)`, of any b and t but ARC-II's, whose lengths are fixed.
    outputs
        The axes of each output that vary, by name, in order.
    file
        Where to write it.
    others
        The axes that vary of inputs that are not `(b, t)`.

    Raises
    ------
    ModelError
        The model has an operator that cannot be written.
    """
    varying = {0: "b"} if isinstance(module, Interaction) else {0: "b", 1: "t"}
    module = copy.deepcopy(module).eval().float().cpu()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(file),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={**dict.fromkeys(inputs, varying), **(others or {}), **outputs},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # each operator fails in its own way
        lines = str(error).strip().splitlines() or [""]
        raise ModelError(
            f"a {type(getattr(module, 'transformer', module)).__name__} cannot be exported ({type(error).__name__}: "
            f"{lines[0][:200]}): use it with PyTorch, or take another backbone"
        ) from error


def move_weights(file: Path) -> None:
    """Move a graph's weights to a file of their own beside it, which is mapped into memory: half as much is held."""
    import onnx

    location = f"{file.stem}.weights"
    onnx.save(onnx.load(str(file)), str(file), save_as_external_data=True, location=location, size_threshold=1024)


def _bare(transformer: Any) -> Any:
    """The Hugging Face model in a module of sentence-transformers, with an attention that can be traced."""
    bare = copy.deepcopy(transformer.model)
    if hasattr(bare, "set_attn_implementation"):
        bare.set_attn_implementation("eager")
    return bare
