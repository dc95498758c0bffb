"""The surface that every model shares: pairs in, scores out; a query and documents in, ranked hits out.

Knows lists and arrays; the models decide what a score is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from polyencoders.models.text import Query, check_document


class Hit(TypedDict, total=False):
    """One ranked document: its place in the list given, its score and, when asked for, its text."""

    corpus_id: int
    score: float
    text: str


def as_pairs(inputs: Any) -> tuple[list[tuple[Query, str]], bool]:
    """Pairs of a query and a document, and whether a single pair was given.

    A pair's document is a text, and a pair is not: that tells one pair from a list of pairs.

    >>> as_pairs(("a query", "a document"))
    ([('a query', 'a document')], True)
    >>> as_pairs([(["a turn", "another"], "a document")])
    ([(['a turn', 'another'], 'a document')], False)
    """
    inputs = inputs.tolist() if isinstance(inputs, np.ndarray) else list(inputs)
    single = len(inputs) == 2 and isinstance(inputs[1], str)
    pairs = [inputs] if single else inputs
    for number, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise ValueError(f"pair {number} is not a query and a document, but {pair!r}")
    return [(query, check_document(document)) for query, document in pairs], single


def hits(scores: Sequence[float], documents: Sequence[str], top_k: int | None, return_documents: bool) -> list[Hit]:
    """The documents by score, best first; equal scores in the order given.

    >>> hits([0.5, 2.0], ["a", "b"], top_k=1, return_documents=True)
    [{'corpus_id': 1, 'score': 2.0, 'text': 'b'}]
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[:top_k]
    ranked: list[Hit] = []
    for index in order.tolist():
        hit: Hit = {"corpus_id": index, "score": float(scores[index])}
        if return_documents:
            hit["text"] = documents[index]
        ranked.append(hit)
    return ranked


def distinct(texts: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Each distinct text once, and where in that list each text given is.

    >>> distinct(["b", "a", "b"])
    (['b', 'a'], [0, 1, 0])
    """
    places: dict[Any, int] = {}
    first: list[Any] = []
    where: list[int] = []
    for text in texts:
        key = text if isinstance(text, str) else tuple(text)
        if key not in places:
            places[key] = len(first)
            first.append(text)
        where.append(places[key])
    return first, where
