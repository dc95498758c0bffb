"""The surface that every model shares: pairs in, scores out; a query and documents in, ranked hits out.

Knows lists and arrays; the models decide what a score is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar

import numpy as np

from polyencoders.models.checks import shown
from polyencoders.models.text import Query, check_document, check_query

T = TypeVar("T")


class Hit(TypedDict, total=False):
    """One ranked document: its place in the list given, its score and, when asked for, its text."""

    corpus_id: int
    score: float
    text: str


def is_pair(inputs: Any) -> bool:
    """Whether it is a pair of a query and a document, rather than a list of pairs.

    A pair's document is a text, and a pair is not: that tells one pair from a list of pairs.

    Examples
    --------
    >>> is_pair(("a query", "a document")), is_pair([("a query", "a document"), ("a query", "another")])
    (True, False)
    """
    return _is_list(inputs) and len(inputs) == 2 and isinstance(inputs[1], str)


def as_pairs(inputs: Any) -> list[tuple[Query, str]]:
    """Pairs of a query and a document, of one pair or a list of them.

    Raises
    ------
    TypeError
        Something is not a pair, or not of a query and a document.

    Examples
    --------
    >>> as_pairs(("a query", "a document"))
    [('a query', 'a document')]
    >>> as_pairs([(["a turn", "another"], "a document")])
    [(['a turn', 'another'], 'a document')]
    """
    if not _is_list(inputs):
        raise TypeError(f"expected a pair of a query and a document, or a list of pairs, got {shown(inputs)}")
    pairs = [inputs] if is_pair(inputs) else inputs
    for pair in pairs:
        if not _is_list(pair) or len(pair) != 2:
            raise TypeError(f"a pair is a query and a document, got {shown(pair)}")
    return [(check_query(_plain(query)), check_document(document)) for query, document in pairs]


def check_lists(queries: Any, documents: Any) -> None:
    """Refuse anything but queries and as many lists of documents.

    Raises
    ------
    TypeError
        They are not lists of queries and of lists of texts.
    ValueError
        There are more of the one than of the other.
    """
    if not _is_list(queries):
        raise TypeError(f"expected a list of queries, got {shown(queries)}")
    if not _is_list(documents):
        raise TypeError(f"expected a list of documents for each query, got {shown(documents)}")
    if len(queries) != len(documents):
        raise ValueError(f"{len(queries)} queries need as many lists of documents, got {len(documents)}")
    for query, texts in zip(queries, documents, strict=True):
        check_query(query)
        check_ranking(texts)


def check_ranking(documents: Any, top_k: int | None = None) -> None:
    """Refuse anything but a list of texts to rank, and a number of hits.

    Raises
    ------
    TypeError
        The documents are not a list of texts.
    ValueError
        `top_k` is not a whole number of at least 1.
    """
    if not _is_list(documents):
        raise TypeError(f"documents are a list of texts, got {shown(documents)}")
    for text in documents:
        check_document(text)
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")


def hits(scores: np.ndarray, documents: Sequence[str], top_k: int | None, return_documents: bool) -> list[Hit]:
    """The documents by score, best first; equal scores in the order given.

    Examples
    --------
    >>> hits(np.array([0.5, 2.0]), ["a", "b"], top_k=1, return_documents=True)
    [{'corpus_id': 1, 'score': 2.0, 'text': 'b'}]
    """
    order = np.argsort(-scores.astype(np.float64), kind="stable")[:top_k]
    ranked: list[Hit] = []
    for index in order.tolist():
        hit: Hit = {"corpus_id": index, "score": float(scores[index])}
        if return_documents:
            hit["text"] = documents[index]
        ranked.append(hit)
    return ranked


def distinct(items: Sequence[T]) -> tuple[list[T], list[int]]:
    """Each distinct query, text, or pair of them once, and where in that list each one given is.

    Examples
    --------
    >>> distinct(["b", "a", "b"])
    (['b', 'a'], [0, 1, 0])
    """
    places: dict[Any, int] = {}
    first: list[T] = []
    where: list[int] = []
    for item in items:
        key = _hashable(item)
        if key not in places:
            places[key] = len(first)
            first.append(item)
        where.append(places[key])
    return first, where


def _hashable(item: Any) -> Any:
    return item if isinstance(item, str) else tuple(map(_hashable, item))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _plain(query: Any) -> Any:
    return query.tolist() if isinstance(query, np.ndarray) else query
