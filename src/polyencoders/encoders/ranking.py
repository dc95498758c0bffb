"""Scores pairs and ranks documents, for every model in the same way. Equal texts get equal scores."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypedDict, TypeVar

import numpy as np

from polyencoders.checks import shown
from polyencoders.encoders.protocols import Vectors
from polyencoders.encoders.queries import Query, check_document, check_query
from polyencoders.encoders.words import Words, fits
from polyencoders.scoring import score_all_pairs

T = TypeVar("T")


class Hit(TypedDict, total=False):
    """A ranked document: its place in the list given, its score and, when asked for, its text."""

    corpus_id: int
    score: float
    text: str


def is_pair(inputs: Any) -> bool:
    """Tell a pair of a query and a document from a list of pairs: a document is a text, and a pair is not.

    >>> is_pair(("a query", "a document")), is_pair([("a query", "a document"), ("a query", "another")])
    (True, False)
    """
    return _is_list(inputs) and len(inputs) == 2 and isinstance(inputs[1], str)


def as_pairs(inputs: Any) -> list[tuple[Query, str]]:
    """Return a list of pairs of a query and a document, given one pair or a list; anything else is a `TypeError`.

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
    """Refuse anything but queries and as many lists of documents."""
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
    """Refuse anything but a list of texts to rank, and a `top_k` of at least 1."""
    if not _is_list(documents):
        raise TypeError(f"documents are a list of texts, got {shown(documents)}")
    for text in documents:
        check_document(text)
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")


def hits(scores: np.ndarray, documents: Sequence[str], top_k: int | None, return_documents: bool) -> list[Hit]:
    """Rank documents by score, best first; equal scores keep the order given.

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
    """Return each distinct query, text or pair once, and for each one given its place in that list.

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


class Ranking:
    """`rank`, `score_lists` and `predict` for any model that scores pairs by `_scores`."""

    def _scores(self, pairs: list[tuple[Query, str]], show_progress_bar: bool) -> Vectors:
        """Score pairs; each distinct one is scored once."""
        raise NotImplementedError

    def rank(
        self,
        query: Query,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        words: bool | float | Words | None = None,
    ) -> list[Hit]:
        """Rank documents by their score for one query, best first.

        Parameters
        ----------
        query
            A text, or a list of turns, the oldest first.
        documents
            Texts.
        top_k
            How many to return; all by default.
        return_documents
            Whether each hit carries its text.
        batch_size, show_progress_bar
            As for `score_lists`.
        words
            What the words of the query count beside the model's score, as for `Index.search`; BM25 over `documents`.

        Returns
        -------
        list of Hit
            `[{"corpus_id", "score", "text"}]`; equal scores in the order given.

        Raises
        ------
        TypeError
            The query is not one, or the documents are not a list of texts.
        ValueError
            `top_k` is below 1, the words' weight below 0, or a query of turns has none.
        """
        check_ranking(documents, top_k)
        asked = Words.of(words)
        scores = self.score_lists([query], [documents], batch_size, bool(show_progress_bar))[0]
        if asked is not None:
            scores = scores + next(fits(asked, [query], documents))
        return hits(scores, documents, top_k, return_documents)

    def score_lists(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[str]],
        batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> list[Vectors]:
        """Score `q` queries, each with the documents of its own list: `q` float32 arrays, as long as the lists.

        Batches are made by numbers of tokens, so `batch_size` is not needed here. Raises a `TypeError` for anything but
        lists of queries and of lists of texts, a `ValueError` where there are more of the one than of the other.
        """
        check_lists(queries, documents)
        pairs = [(query, text) for query, texts in zip(queries, documents, strict=True) for text in texts]
        scores = self._scores(pairs, show_progress_bar)
        return np.split(scores, np.cumsum([len(texts) for texts in documents])[:-1]) if len(queries) else []

    def predict(self, inputs: Any, batch_size: int = 32, show_progress_bar: bool | None = None) -> Any:
        """Score a pair of a query and a document, or a list of `n` pairs, as a cross-encoder's `predict` does.

        Returns a single score, or `(n,)`. Raises a `TypeError` where an input is not a pair of the two.
        """
        scores = self._scores(as_pairs(inputs), bool(show_progress_bar))
        return scores[0] if is_pair(inputs) else scores


class VectorRanking(Ranking):
    """Ranking by an `Encoder`: each distinct query and document is encoded once, each distinct pair scored once."""

    def _scores(self: Any, pairs: list[tuple[Query, str]], show_progress_bar: bool) -> Vectors:
        queries, of_pair = distinct([query for query, _ in pairs])
        texts, places = distinct([text for _, text in pairs])
        if not pairs:
            return np.empty(0, dtype=np.float32)
        with progress(len(queries) + len(texts), show_progress_bar) as advance:
            codes = self.encode_queries(queries, advance)
            vectors = self.encode_documents(texts, bf16=False, advance=advance)
        scores = np.empty(len(pairs), dtype=np.float32)
        order = np.argsort(of_pair, kind="stable")
        bounds = np.searchsorted(np.asarray(of_pair)[order], np.arange(len(queries) + 1))
        for number, (start, stop) in enumerate(pairwise(bounds.tolist())):
            mine = order[start:stop]
            wanted, where = np.unique(np.asarray(places)[mine], return_inverse=True)
            scores[mine] = score_all_pairs(codes[number][None], vectors[wanted], self.temperature)[0][where]
        return scores


class PairRanking(Ranking):
    """Ranking by a model that reads pairs: each distinct pair is read once."""

    def score_distinct_pairs(self, pairs: list[tuple[Query, str]], advance: Callable[[int], object]) -> Vectors:
        """Score distinct pairs, `(n,)`; subclasses say how."""
        raise NotImplementedError

    def score_pairs(self, pairs: Sequence[tuple[Query, str]], batch_size: int = 32) -> Vectors:
        """Score pairs, `(n,)`; each distinct pair is read once."""
        return self._scores(as_pairs(list(pairs)), False)

    def _scores(self, pairs: list[tuple[Query, str]], show_progress_bar: bool) -> Vectors:
        if not pairs:
            return np.empty(0, dtype=np.float32)
        distinct_pairs, places = distinct(pairs)
        with progress(len(distinct_pairs), show_progress_bar) as advance:
            return self.score_distinct_pairs(distinct_pairs, advance)[places]


@contextmanager
def progress(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    """Yield a function that advances a progress bar by a number of texts, or does nothing if none is shown."""
    if not shown:
        yield lambda done: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        bar = progress.add_task("texts", total=total)
        yield lambda done: progress.advance(bar, done)
