"""A cross-encoder with a warm start: it begins with the scores of a bi-encoder on its backbone.

Query and document stand in one sequence, each with the special tokens and positions it would have alone, and both are
reduced to the backbone's vector of a text. They attend to each other, weakly at first, which a bi-encoder's do not.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from sentence_transformers.base.modules import Transformer
from sentence_transformers.base.modules.module import Module
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from polyencoders.encoders.queries import DOCUMENT, PADDING, QUERY, Query, query_text
from polyencoders.encoders.ranking import as_pairs, distinct
from polyencoders.errors import ModelError
from polyencoders.models.base import settings_among
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.directory import loading_arguments
from polyencoders.models.joint import JointEncoder
from polyencoders.models.reductions import reduction_module

CROSS_BIAS = -2.0
"""At first the attention between the two texts has e^-2 of its weight: rankings hardly change, and there is enough to
learn from. Measured in docs/design.md."""


class ScoreOfSides(Module):
    """`score = red(outputs of the query) . red(outputs of the document)`.

    Input features: `token_embeddings (b, t, d)`, `sides (b, t)`. Output feature: `scores (b, 1)`. The reduction is
    `first`, `mean` or `max`; with `normalize` both vectors get length 1.

    Examples
    --------
    >>> module = ScoreOfSides(2, "mean", normalize=False)
    >>> outputs = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 7.0]]])
    >>> module({"token_embeddings": outputs, "sides": torch.tensor([[QUERY, QUERY, DOCUMENT]])})["scores"]
    tensor([[10.]])
    """

    config_keys: list[str] = ["embedding_dimension", "reduction", "normalize"]  # noqa: RUF012 as in the base class

    def __init__(self, embedding_dimension: int, reduction: str, normalize: bool) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.reduction = reduction
        self.normalize = normalize
        self.reduce = reduction_module(reduction, embedding_dimension, None)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Turn token outputs into scores."""
        query, document = (self._vector(features, side) for side in (QUERY, DOCUMENT))
        features["scores"] = (query * document).sum(-1, keepdim=True)
        return features

    def vector(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """Reduce outputs `(b, t, d)` of texts to vectors `(b, d)`; the mask `(b, t)` is 1 for words, 0 for padding."""
        reduced = self.reduce({"token_embeddings": outputs.float(), "attention_mask": mask})
        vector: Tensor = reduced["sentence_embedding"]
        return functional.normalize(vector, dim=-1) if self.normalize else vector

    def _vector(self, features: Mapping[str, Tensor], side: int) -> Tensor:
        mask, outputs = features["sides"] == side, features["token_embeddings"]
        # A side's outputs moved to the left, where a reduction expects them.
        places = mask.long().argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(1).max())]
        outputs = outputs.gather(1, places[..., None].expand(-1, -1, outputs.shape[-1]))
        return self.vector(outputs, mask.gather(1, places).long())

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings; there are no weights."""
        self.save_config(output_path)


class WarmCrossEncoder(JointEncoder):
    """`score = red(T(query | document)) . red(T(document | query))`: each text is encoded in sight of the other.

    In every layer a word attends to the words of both texts, and one number is added for those of the other:

        softmax_j(q_i . k_j / sqrt(d) + g_ij)        g_ij = 0 within a text, `cross_bias` between the two

    The lower the bias, the nearer the score is to the bi-encoder's. No weights are added to the backbone's. (DeFormer,
    Cao et al. 2020, and PreTTR, MacAvaney et al. 2020, read two texts apart in some layers; the bias is new.)

    Parameters
    ----------
    model_name_or_path
        A saved `WarmCrossEncoder`, or a backbone: an encoder that was made to embed gains most by it.
    cross_bias
        Added to the attention between the two texts, 0 or less; default -2. What training needs beyond that, the
        backbone's own weights learn.
    query_length
        The most tokens of a query, of which the newest are kept; default: all that the backbone reads.
    document_length
        The most tokens of a document, of which the first are kept; the same default.
    turn_separator
        Stands between the turns of a conversation; default the tokeniser's separator.
    **cross_encoder_arguments
        As for sentence-transformers' `CrossEncoder`: `device`, `token`, `revision`, ...

    Raises
    ------
    ModelError
        A directory of another architecture, settings that contradict a saved model, damaged weights; a backbone whose
        attention cannot be told which words to see (it says so).
    """

    summary = (
        "Query and document are read together, from a bi-encoder's start: each is reduced to one vector, and the score "
        "is their inner product."
    )
    module_classes = (ScoreOfSides,)

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        cross_bias: float | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        turn_separator: str | None = None,
        **cross_encoder_arguments: Any,
    ) -> None:
        settings = settings_among(locals())
        cross_encoder_arguments.setdefault("activation_fn", nn.Identity())
        super().__init__(model_name_or_path, settings=settings, **cross_encoder_arguments)

    @property
    def cross_bias(self) -> float:
        """The number added to the attention between the two texts."""
        return float(self.saved_settings["cross_bias"])

    @property
    def query_length(self) -> int | None:
        """The most tokens of a query; None: as many as the backbone reads."""
        return self._transformer.query_length

    @property
    def document_length(self) -> int | None:
        """The most tokens of a document; None: as many as the backbone reads."""
        return self._transformer.document_length

    @property
    def normalize(self) -> bool:
        """Whether the two vectors have length 1, so that scores are cosines: as the backbone's own vectors."""
        score = self[1]
        assert isinstance(score, ScoreOfSides)
        return score.normalize

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines: both reduced texts have length 1."""
        return self.normalize

    @property
    def score_scale(self) -> float:  # type: ignore[override]
        """The factor of scores in a loss: 20 for cosines, else 1, as for a bi-encoder."""
        return 20.0 if self.normalize else 1.0

    @property
    def num_labels(self) -> int:
        """One score a pair."""
        return 1

    @property
    def _transformer(self) -> Transformer:
        transformer = self[0]
        assert isinstance(transformer, Transformer)
        return transformer

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        return {
            "Score": "inner product of two vectors, one of each text, that have seen each other",
            "Bias of the attention between them": f"{self.cross_bias:g}",
            "Longest query": f"{self.query_length or self.max_seq_length} tokens",
            "Longest document": f"{self.document_length or self.max_seq_length} tokens",
            **super().card_properties(),
        }

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Turn pairs into `input_ids`, `position_ids`, `sides`, each `(b, t)`, and `attention_mask (b, 1, t, t)`.

        Raises
        ------
        TypeError
            An input is not a pair of a query and a document.
        """
        pairs = as_pairs(list(inputs))
        if not pairs:
            return {}
        return self._features(*self._token_ids(pairs, prompt))

    def _features(self, queries: list[list[int]], places: list[int], documents: list[list[int]]) -> dict[str, Any]:
        """Make features of what `_token_ids` returns."""
        return pair_features(
            [queries[place] for place in places],
            documents,
            self.cross_bias,
            self.saved_settings["first_position"],
            self._padding,
            next(self.parameters()).dtype,
        )

    def _token_ids(
        self, pairs: list[tuple[Query, str]], prompt: str | None
    ) -> tuple[list[list[int]], list[int], list[list[int]]]:
        """Return the tokens of each distinct query, each pair's place in that list, and the tokens of its document."""
        transformer, tokenizer = self._transformer, cast(Any, self.tokenizer)
        longest = transformer.query_length or transformer.max_seq_length
        separator = self.turn_separator
        asked, places = distinct([query for query, _ in pairs])  # a query meets many documents, and is cut once
        texts = [(prompt or "") + query_text(query, separator, tokenizer, longest, prompt) for query in asked]
        queries = _ids(tokenizer, texts, longest)
        longest = transformer.document_length or transformer.max_seq_length
        return queries, places, _ids(tokenizer, [document for _, document in pairs], longest)

    @property
    def _padding(self) -> int:
        """The id of padding."""
        return int(cast(Any, self.tokenizer).pad_token_id or 0)

    def _build(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        bias = self._given.get("cross_bias", CROSS_BIAS)
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -math.inf < bias <= 0:
            raise ModelError(f"cross_bias must be a number, 0 or below, got {bias!r}")
        lengths = {key: self._given[key] for key in ("query_length", "document_length") if key in self._given}
        start = BiEncoder(name, device="cpu", **lengths, **loading_arguments(arguments))
        transformer = start.route("document")[0]
        assert isinstance(transformer, Transformer)
        self._start(transformer.tokenizer)
        self.saved_settings |= {"cross_bias": float(bias), **self._learnt_of(transformer)}
        score = ScoreOfSides(transformer.get_embedding_dimension(), start.document_reduction, start.normalize)
        return [transformer, score], {}

    def _learnt_of(self, transformer: Transformer) -> dict[str, Any]:
        """Return the settings that are found by trying the backbone; refuse one that cannot do what is asked of it."""
        return {"first_position": _first_position(transformer)}


def pair_features(
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
    cross_bias: float,
    first_position: int,
    padding: int,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Turn token ids of `b` queries and `b` documents, special tokens included, into features.

    `cross_bias` is added to the attention between the two texts, positions of each text begin at `first_position`,
    `padding` is the id of padding, and `dtype` that of the attention mask.

    Examples
    --------
    >>> made = pair_features([[7, 8]], [[9]], -2.0, 0, 0, torch.float32)
    >>> made["position_ids"], made["attention_mask"][0, 0]
    (tensor([[0, 1, 0]]), tensor([[ 0.,  0., -2.],
            [ 0.,  0., -2.],
            [-2., -2.,  0.]]))
    """
    pairs = list(zip(queries, documents, strict=True))
    sides = padded([[QUERY] * len(query) + [DOCUMENT] * len(document) for query, document in pairs], PADDING)
    positions = [[first_position + i for text in pair for i in range(len(text))] for pair in pairs]
    least = torch.finfo(dtype).min  # what infinity would make of a row of padding alone is not a number
    apart = sides[:, :, None] != sides[:, None, :]
    mask = torch.zeros(apart.shape, dtype=dtype).masked_fill(apart, max(cross_bias, least))
    mask = mask.masked_fill((sides == PADDING)[:, None, :], least)
    return {
        "input_ids": padded([[*query, *document] for query, document in pairs], padding),
        "position_ids": padded(positions, first_position),
        "sides": sides,
        "attention_mask": mask[:, None],
    }


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Put rows into one tensor `(b, t)`, filled up with a value."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def _ids(tokenizer: Any, texts: list[str], longest: int | None) -> list[list[int]]:
    limits = {} if longest is None else {"truncation": True, "max_length": longest}
    ids: list[list[int]] = tokenizer(texts, **limits)["input_ids"]
    return ids


@torch.no_grad()
def _first_position(transformer: Transformer) -> int:
    """Find the first position by trying: two texts that do not see each other must have the outputs of each alone.

    It is 0, or lies behind the id of padding, 0 or 1, as in RoBERTa and MPNet.
    """
    model, tokenizer = transformer.auto_model, cast(Any, transformer.tokenizer)
    weights, training = next(model.parameters()), model.training
    model.eval()
    texts = [tokenizer([text])["input_ids"][0] for text in ("a few words", "and some others")]
    try:
        alone = [
            model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))[0]
            for ids in texts
        ]
        expected = torch.cat(alone, dim=1)
        for first in range(3):
            given = pair_features([texts[0]], [texts[1]], -math.inf, first, 0, weights.dtype)
            names = ("input_ids", "position_ids", "attention_mask")
            found = model(**{name: given[name] for name in names})[0]
            if torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
                return first
    except (TypeError, ValueError, IndexError, RuntimeError):
        pass  # no position_ids, or a mask of another kind
    finally:
        model.train(training)
    raise ModelError(
        f"a {type(model).__name__} cannot be told which words see each other, or where positions begin, so that a "
        "cross-encoder with a warm start cannot be built on it: use a CrossEncoder (cross), or another backbone"
    )
