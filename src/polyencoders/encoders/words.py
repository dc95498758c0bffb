"""Words beside vectors: how well the words of a document fit those of a query (BM25).

    BM25(q, c) = sum_w idf(w) tf(w, c) / (tf(w, c) + k1 (1 - b + b |c| / mean |c|))
    idf(w)     = ln(1 + (n - df(w) + 1/2) / (df(w) + 1/2))

over the distinct words w of the query: Robertson & Zaragoza (2009), with Lucene's idf, which is never negative. It is
divided by `sum_w idf(w)`, the most that these words could give, and so lies between 0 and 1 for every query: the
fraction of what was asked for that the document has. What is added to a score of vectors is `weight` times that.

bm25s splits texts into words and knows stop words; its index is not used, because it computes all scores beforehand,
and every document that is added or deleted changes `n`, `df` and the mean length.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.queries import Query
from polyencoders.errors import MissingExtraError

K1, B = 1.5, 0.75
WEIGHT = 0.8  # chosen on validation queries, see docs/the-index.md
TURNS = 2
TEXTS_AT_ONCE = 4096  # Texts that are split together

LANGUAGES = (
    *("none", "danish", "dutch", "english", "french", "german", "italian", "norwegian", "portuguese", "russian"),
    *("spanish", "swedish", "turkish"),
)
"""Whose stop words are left out and whose endings are cut off; `none`: all words, as they stand."""

_WORD = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
"""Chinese and Japanese, which have no spaces, go by the character."""


class Words(NamedTuple):
    """What words count beside vectors.

    >>> Words.of(True) == Words(), Words.of(0.2).weight, Words.of(None)
    (True, 0.2, None)
    """

    weight: float = WEIGHT  # What is added for a document that has all that was asked for
    turns: int = TURNS  # Last turns of a conversation whose words are looked for
    language: str = "none"  # One of `LANGUAGES`; an index has its own

    @classmethod
    def of(cls, given: bool | float | Words | None) -> Words | None:
        """What was asked for: a weight, True for the default one, or nothing. ValueError for any other."""
        words = cls() if given is True else given if isinstance(given, Words) else cls(given or 0.0)
        if not (isinstance(words.weight, int | float) and 0 <= words.weight < math.inf):
            raise ValueError(f"words: expected True or a weight of at least 0, got {given!r}")
        if not (isinstance(words.turns, int) and words.turns >= 1):
            raise ValueError(f"words: the number of turns must be at least 1, got {words.turns!r}")
        return words if words.weight else None

    def asked(self, queries: Sequence[Query], language: str) -> list[list[str]]:
        """The distinct words of each query, of its last turns where it is a conversation."""
        texts = [query if isinstance(query, str) else "\n".join(query[-self.turns :]) for query in queries]
        return [list(dict.fromkeys(words)) for words in split(texts, language)]


class Totals(NamedTuple):
    """What BM25 needs to know of all documents."""

    documents: int
    length: int  # Words of all documents
    having: Mapping[str, int]  # By word: how many documents have it

    @classmethod
    def sum(cls, parts: Iterable[Totals]) -> Totals:
        """The totals of documents that lie in several places."""
        documents = length = 0
        having: Counter[str] = Counter()
        for part in parts:
            documents, length = documents + part.documents, length + part.length
            having.update(part.having)
        return cls(documents, length, having)

    def idf(self, word: str) -> float:
        """How much a word tells: the rarer, the more."""
        having = self.having.get(word, 0)
        return math.log1p((self.documents - having + 0.5) / (having + 0.5))


class Postings(NamedTuple):
    """By word, which documents have it and how often."""

    words: Sequence[str]  # Sorted
    ends: NDArray[np.int64]  # `(words + 1,)`: where the documents of each word begin and end
    documents: NDArray[np.int32]  # For each word: positions of documents, ascending
    counts: NDArray[np.uint16]  # How often each of them has the word
    lengths: NDArray[np.int32]  # `(n,)`: words of each document
    first: int = 0  # The position of the first document, where these are a part of those in `documents`

    @classmethod
    def of(cls, texts: Iterable[str], language: str) -> Postings:
        """The words of some texts."""
        numbers: dict[str, int] = {}
        listed, counts, distinct, lengths = counted(texts, language, numbers)
        words, ends, ranks = ordered(numbers, np.bincount(listed, minlength=len(numbers)))
        postings = cls(words, ends, np.empty(len(listed), np.int32), np.empty(len(listed), np.uint16), lengths)
        postings.fill([(ranks[listed], np.repeat(np.arange(len(distinct)), distinct), counts)])
        return postings

    def fill(self, parts: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> None:
        """Put in places of words, positions of documents, and counts; the documents come in ascending order."""
        at = self.ends[:-1].copy()
        for places, documents, counts in parts:
            order = np.argsort(places, kind="stable")
            sorted_places = places[order]
            begins = np.flatnonzero(np.diff(sorted_places, prepend=-1))
            sizes = np.diff(begins, append=len(order))
            to = at[sorted_places] + np.arange(len(order)) - np.repeat(begins, sizes)
            self.documents[to], self.counts[to] = documents[order], counts[order]
            at[sorted_places[begins]] += sizes

    def having(self, word: str) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Positions of the documents that have a word, and how often."""
        place = bisect_left(self.words, word)
        if place == len(self.words) or self.words[place] != word:
            return self.documents[:0], self.counts[:0]
        some = slice(int(self.ends[place]), int(self.ends[place + 1]))
        documents, counts = self.documents[some], self.counts[some]
        if self.first or len(self.lengths) <= (int(documents[-1]) if len(documents) else -1):
            mine = slice(*np.searchsorted(documents, [self.first, self.first + len(self.lengths)]))
            documents, counts = documents[mine] - np.int32(self.first), counts[mine]
        return documents, counts

    def totals(self, words: Iterable[str]) -> Totals:
        """What BM25 needs to know of these documents."""
        having = {word: len(self.having(word)[0]) for word in words}
        return Totals(len(self.lengths), int(self.lengths.sum(dtype=np.int64)), having)

    def fit(self, queries: Sequence[Sequence[str]], totals: Totals) -> NDArray[np.float32]:
        """How well each document fits the distinct words of each query: `(q, n)`, from 0 to 1."""
        fit = np.zeros((len(queries), len(self.lengths)), dtype=np.float32)
        mean = max(totals.length / max(1, totals.documents), 1e-9)
        saturation = (self.lengths * np.float32(K1 * B / mean) + np.float32(K1 * (1 - B))).astype(np.float32)
        for row, words in zip(fit, queries, strict=True):
            most = sum(map(totals.idf, words))
            for word in words:
                documents, counts = self.having(word)
                gained = counts.astype(np.float32)
                gained /= saturation.take(documents) + gained
                gained *= np.float32(totals.idf(word) / most)
                np.add.at(row, documents, gained)  # twice as fast as row[documents] += gained
        return fit


def counted(
    texts: Iterable[str], language: str, numbers: dict[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32], NDArray[np.int32]]:
    """The distinct words of texts by number, one text after another, and how often the text has each.

    Also how many distinct words each text has, and its length. New words get new `numbers`.
    """
    listed: list[int] = []
    counts: list[int] = []
    distinct, lengths = [], []
    for words in split(texts, language):
        found = Counter(words)
        listed += [numbers.setdefault(word, len(numbers)) for word in found]
        counts += [min(count, 65535) for count in found.values()]
        distinct.append(len(found))
        lengths.append(len(words))
    kinds = (np.int32, np.uint16, np.int32, np.int32)
    return tuple(np.array(some, kind) for some, kind in zip((listed, counts, distinct, lengths), kinds, strict=True))  # type: ignore[return-value]


def ordered(numbers: dict[str, int], having: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64], NDArray[Any]]:
    """Numbered words in order, where the documents of each begin and end, and the place of each number."""
    words = sorted(numbers)
    order = np.array([numbers[word] for word in words], dtype=np.int64)
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order))
    return words, np.concatenate([[0], np.cumsum(having[order])]).astype(np.int64), ranks


def split(texts: Iterable[str], language: str = "none") -> Iterator[list[str]]:
    """The words of each text, in lower case.

    >>> list(split(["The replies' words", "東京 2020"])), list(split(["The replies' words"], "english"))
    ([['the', 'replies', 'words'], ['東', '京', '2020']], [['repli', 'word']])
    """
    options = _options(check_language(language))
    bm25s, stream = _bm25s(), iter(texts)
    while some := list(islice(stream, TEXTS_AT_ONCE)):
        yield from bm25s.tokenize(some, token_pattern=_WORD, return_ids=False, show_progress=False, **options)


def check_language(language: str) -> str:
    """The language, if its words are known; ValueError if not."""
    if language not in LANGUAGES:
        raise ValueError(f"the language of words must be one of {', '.join(LANGUAGES)}, got {language!r}")
    return language


def fits(words: Words, queries: Sequence[Query], texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
    """What the words of some texts add to their scores, `(n,)`, for one query after another.

    >>> next(fits(Words(0.5), ["green tea"], ["Tea.", "Green tea!", "Milk."])).round(2)
    array([0.07, 0.16, 0.  ], dtype=float32)
    """
    asked = words.asked(queries, words.language)
    postings = Postings.of(texts, words.language)
    totals = postings.totals({word for some in asked for word in some})
    for one in asked:
        yield np.float32(words.weight) * postings.fit([one], totals)[0]


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise MissingExtraError("bm25s", "index") from None
    return bm25s


def _options(language: str) -> dict[str, Any]:
    if language == "none":
        return {"stopwords": None}
    try:
        import Stemmer
    except ImportError:
        raise MissingExtraError("PyStemmer", "index") from None
    return {"stopwords": language, "stemmer": Stemmer.Stemmer(language)}
