"""The best documents for queries of m codes, from a store that knows only inner products with one vector.

With `s_i = y_i . c`, the score `sum_i softmax(s / T)_i s_i` is a mean of the `s_i`, so

    score(c) <= max_i y_i . c                                                                        (1)

Each code asks for its K neighbours, and all documents found are scored exactly. A document that was not found has, for
every code i, an inner product of at most `t_i`, the K-th of that code; by (1) it scores at most `max_i t_i`. If the
k-th best score is above that, the k best are the k best of all. Otherwise K is doubled.

The store's inner products are rounded, so `t_i` has to be raised by the error. With `u = 2**-24`, a code `y` rounded to
float32 is off by at most `u |y|`, and a sum of d products in float32, in whatever order, with or without fused
multiplications, by at most `d u / (1 - d u) |y| |c|` (Higham 2002, section 3.1). Together that is less than
`(d + 1) 2u |y| |c|` while `d u < 1/2`, and with one more for the float64 of the scores themselves

    |computed - true| <= (d + 2) 2**-23 |y| |c|                                                      (2)

but for numbers so small that float32 loses them, which (with `tiny` the smallest of full precision) add at most
`2 d tiny max(1, |y|, |c|)`.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.index.arrays import as_array
from polyencoders.index.stores.protocol import DocumentStore, Neighbours, StoredDocument, StoreError
from polyencoders.scoring import attend

MOST = 4096  # Neighbours of a code, at most; a search that would need more says how far it got


class StoreHit(NamedTuple):
    """A document that was found."""

    id: str
    score: float
    text: str
    metadata: dict[str, Any]


class StoreAnswer(NamedTuple):
    """What was found for one query."""

    hits: list[StoreHit]  # The highest score first; equal scores by id
    certified: bool  # Whether these are proven to be the best of all documents in the store that meet the condition
    bound: float
    """No document that was not scored scores above this, and none that was scored and is no hit above the last hit.
    Minus infinity if all were scored. For a store that is not exact, it is what it would be if it were."""

    @property
    def gap(self) -> float:
        """The most by which a missed document could beat the last hit; 0 if none can."""
        last = self.hits[-1].score if self.hits else -math.inf
        return max(0.0, self.bound - last) if self.bound > last else 0.0


def search_store(
    store: DocumentStore,
    query_codes: Any,
    k: int = 10,
    temperature: float = 1.0,
    where: str | None = None,
    *,
    first: int | None = None,
    most: int = MOST,
) -> list[StoreAnswer]:
    """Find the k best documents of every query, and say whether they are certain to be the k best.

    All codes of all queries go to the store in one call; those of queries that are not certain yet go again, for twice
    as many neighbours. No document is fetched twice. A store's answer to one call is one state of it; if it changes
    between two calls, a certificate holds for the documents that did not.

    Parameters
    ----------
    store
        Where the documents are.
    query_codes
        `(q, m, d)`, tensor or array. A code of zeros is absent. `(q, d)` is one vector a query, as a bi-encoder's.
    k
        How many; all of them where there are fewer.
    temperature
        Of the softmax over the codes: the model's own.
    where
        A condition that hits must meet, in the store's own language, which is not checked here. Take it only from those
        who may query the store, not from those who are served.
    first
        How many neighbours each code asks for at first; by default `4 k`, and at least 64.
    most
        How many at last. A query that would need more is answered all the same, but not certified.

    Returns
    -------
    list of StoreAnswer
        One for each query.

    Raises
    ------
    TypeError
        Not vectors, or not of floating-point numbers.
    ValueError
        Shapes that do not fit the store, a number that is not finite, `k` or `first` below 1, `most` below `k`, or a
        temperature that is not a number above 0.
    StoreError
        The store cannot be reached or refuses to answer.
    """
    codes = _checked_codes(query_codes, store.dimension)
    if k < 1:
        raise ValueError(f"k, how many documents to find, must be at least 1, got {k}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be a number above 0, got {temperature}")
    if first is not None and first < 1:
        raise ValueError(f"first, how many neighbours a code asks for at first, must be at least 1, got {first}")
    if most < k:
        raise ValueError(f"most, how many neighbours a code asks for at last, must be at least k = {k}, got {most}")

    queries = [_Search(one, temperature, store.longest) for one in codes]
    documents: dict[str, StoredDocument] = {}
    neighbours = min(max(k, max(64, 4 * k) if first is None else first), most)
    while unsettled := [query for query in queries if not query.settled(k)]:
        _ask(store, unsettled, neighbours, where, documents)
        if neighbours == most:
            break
        neighbours = min(2 * neighbours, most)
    return [query.answer(k, documents, store.exact) for query in queries]


class _Search:
    """The codes of one query that are present, the documents it has scored, and a bound of all others."""

    def __init__(self, codes: NDArray[np.float64], temperature: float, longest: float) -> None:
        present = codes.any(axis=1)
        # With no code present every score is 0, which is what a code of zeros finds.
        self.codes = codes[present] if present.any() else codes[:1]
        self.present = np.full(len(self.codes), present.any())
        self.temperature = temperature
        self.margins = rounding_margin(np.linalg.norm(self.codes, axis=1), longest, codes.shape[1])
        self.scores: dict[str, float] = {}
        self.bound = math.inf

    def narrow(self, found: list[Neighbours], neighbours: int) -> None:
        """Lower the bound by what the neighbours of each code say about all other documents."""
        if any(len(one.ids) < neighbours for one in found):
            self.bound = -math.inf  # a code that found fewer than it asked for has seen everything
            return
        products = np.array([one.products[-1] for one in found], dtype=np.float64)
        bound = float((products + self.margins).max())
        self.bound = math.inf if math.isnan(bound) else bound  # beyond float32 nothing is known

    def score(self, documents: list[StoredDocument]) -> None:
        """Score documents in float64."""
        if documents:
            vectors = np.stack([document.vector for document in documents]).astype(np.float64)
            # Not a matrix product: that may round equal rows differently, and equal documents must score the same.
            scores = attend(np.einsum("nd,md->nm", vectors, self.codes), self.present, self.temperature).tolist()
            self.scores.update(zip((document.id for document in documents), scores, strict=True))

    def best(self, k: int) -> list[tuple[str, float]]:
        return sorted(self.scores.items(), key=lambda item: (-item[1], item[0]))[:k]

    def settled(self, k: int) -> bool:
        """Whether no other document can be among the k best; one that is level with the last might be."""
        if self.bound == -math.inf:
            return True
        best = self.best(k) if self.bound < math.inf else []
        return len(best) == k and best[-1][1] > self.bound

    def answer(self, k: int, documents: dict[str, StoredDocument], exact: bool) -> StoreAnswer:
        hits = [StoreHit(id, score, documents[id].text, documents[id].metadata) for id, score in self.best(k)]
        return StoreAnswer(hits, exact and self.settled(k), self.bound)


def rounding_margin(lengths: NDArray[np.float64], longest: float, d: int) -> NDArray[np.float64]:
    """The most by which inner products in float32 differ from the true ones, for codes of these lengths: (2) above.

    >>> rounding_margin(np.array([1.0, 2.0]), longest=1.0, d=126).tolist() == [2**-16, 2**-15]
    True
    """
    tiny = float(np.finfo(np.float32).tiny)
    return (d + 2) * 2.0**-23 * lengths * longest + 2 * d * tiny * np.maximum(1.0, np.maximum(lengths, longest))


def _ask(
    store: DocumentStore,
    queries: list[_Search],
    neighbours: int,
    where: str | None,
    documents: dict[str, StoredDocument],
) -> None:
    """One round: ask for the neighbours of all codes in one call, and for unknown documents in another."""
    vectors = np.concatenate([query.codes for query in queries]).astype(np.float32)
    found = store.search(vectors, neighbours, where)
    if len(found) != len(vectors):
        raise StoreError(
            f"{type(store).__name__} gave the neighbours of {len(found)} vectors, asked for {len(vectors)}"
        )
    missing = {id: None for one in found for id in one.ids if id not in documents}
    if missing:
        documents.update((document.id, document) for document in store.fetch(list(missing)))
    start = 0
    for query in queries:
        own = found[start : start + len(query.codes)]
        start += len(own)
        query.narrow(own, neighbours)
        # A document that was deleted in between is not in `documents`.
        ids = {id: None for one in own for id in one.ids if id in documents and id not in query.scores}
        query.score([documents[id] for id in ids])


def _checked_codes(query_codes: Any, d: int) -> NDArray[np.float64]:
    """Query codes as a float64 array `(q, m, d)`."""
    if not (isinstance(query_codes, np.ndarray) or hasattr(query_codes, "detach")):
        raise TypeError(f"query codes: expected a tensor or a numpy array, got {type(query_codes).__name__}")
    codes = as_array(query_codes)
    if not np.issubdtype(codes.dtype, np.floating):
        raise TypeError(f"query codes: expected floating-point numbers, got {query_codes.dtype}")
    codes = codes.astype(np.float64)
    if codes.ndim == 2:
        codes = codes[:, None, :]
    if codes.ndim != 3 or codes.shape[1] == 0 or codes.shape[2] != d:
        raise ValueError(
            f"query codes: expected (q, m, {d}), or (q, {d}) for one vector a query, as the store's vectors have "
            f"{d} dimensions, got the shape {tuple(query_codes.shape)}"
        )
    if not np.isfinite(codes).all():
        raise ValueError("query codes: expected finite numbers, got infinity or nan")
    if (abs(codes) > np.finfo(np.float32).max).any():
        raise ValueError("query codes: expected numbers that float32 can hold, as stores compute in it")
    return codes
