"""Exact search, fast search, and what can be said about the documents that a fast search did not look at.

Exact: the kernel finds the k best of all documents, proven. Fast: only the tiles are searched whose centres have the
largest products with the mean code. Every other tile lies in a known cone about its centre, which bounds every score in
it: `score <= max_i y_i . c <= mean(y) . c + max_i |y_i - mean(y)| |c|`. When that bound is below the k-th score found,
the answer is certified. Words add to the score of each document, and to the bound of a tile the most that they add to
one of its documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.index.documents import Record
from polyencoders.index.layout import Layout
from polyencoders.index.neighbourhoods import reach
from polyencoders.index.snapshot import Segment, Snapshot
from polyencoders.index.words import Asked
from polyencoders.scoring import Selection
from polyencoders.scoring.selection import TILE

FRACTION = 0.07  # Of the documents, that a fast search looks at by default
LEAST = 40_000
"""Documents that a fast search looks at unless it is given a fraction: of fewer it would miss more than it saves."""
QUERIES_AT_ONCE = 32  # Queries that are searched in one pass over the documents
ADDENDS_AT_ONCE = 1 << 23  # What words add, of several queries to all documents of a segment (32 MB)


class Found(NamedTuple):
    """The best documents of one query, best first."""

    scores: NDArray[np.float64]
    segments: NDArray[np.int64]  # Of each document: the segment it is in
    places: NDArray[np.int64]  # Of each document: its position in the segment
    bound: float  # No document that is not among them scores above it
    certified: bool
    looked_at: int  # Documents that were searched
    there: int  # Documents that could be found


class Promises(NamedTuple):
    """How promising the tiles of a segment are to each query."""

    ranks: NDArray[np.float32]
    """`(q, tiles)`: the higher, the more promising; perhaps of the best tiles only. Equal ones keep their order."""
    sizes: NDArray[np.uint8]  # `(q, tiles)`: documents of each of them that could be found
    there: int  # Documents that could be found


class Wanted(NamedTuple):
    """What is searched for, whatever the queries are."""

    k: int  # How many documents; all where there are fewer
    temperature: float  # Of the softmax over query codes
    where: str | None = None  # A filter
    fraction: float | None = None  # Of the documents that could be found, to look at; None: all, by an exact search
    least: int = 0  # Documents to look at if the fraction is fewer; k in any case
    words: Asked | None = None  # What the words of the queries are worth; None: nothing

    def to_look_at(self, there: int) -> int | None:
        """How many of `there` documents that could be found to look at; None: search exactly."""
        if self.fraction is None:
            return None
        documents = max(self.least, self.k, round(self.fraction * there))
        return documents if documents < there else None


def find(snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Found]:
    """The best documents of each query. `codes` are `(q, m, d)`; a code of zeros is absent."""
    numbers: list[int | None] = [None] * len(snapshot.segments)
    if wanted.fraction is not None:  # an exact search need not count the documents
        selections = snapshot.selections(wanted.where)
        numbers = [wanted.to_look_at(len(selection)) for selection in selections]
    return [
        merged([concluded(part, wanted.k) for part in parts], wanted.k)
        for parts in in_segments(snapshot, codes, wanted, numbers)
    ]


def in_segments(
    snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted, numbers: Sequence[int | NDArray[np.int64] | None]
) -> list[list[Found]]:
    """The best documents of each query in each segment by itself, yet to be `concluded`.

    `numbers` says by segment how many documents to look at, for all queries or `(q,)` for each; None: exact. The most
    promising tiles are searched until they hold so many.
    """
    parts: list[list[Found]] = [[] for _ in codes]
    searched = zip(snapshot.segments, snapshot.selections(wanted.where), numbers, strict=True)
    for place, (segment, selection, number) in enumerate(searched):
        if segment.layout is None or number is None:
            some = _exactly(segment, selection, codes, wanted)
        else:
            each = np.broadcast_to(number, len(codes))
            some = _among_neighbours(segment, segment.layout, selection, codes, wanted, each)
        for part, found in zip(parts, some, strict=True):
            part.append(found._replace(segments=np.full(len(found.places), place)))
    return parts


def promises(
    segment: Segment,
    selection: Selection,
    codes: NDArray[np.float64],
    words: Asked | None = None,
    most: int | None = None,
) -> Promises:
    """How promising each tile with documents of a `selection` is; `most`: of the best, as many as hold so many."""
    assert segment.layout is not None
    products = segment.layout.centres.estimate(_means(codes)[0])
    ranks = np.empty((len(codes), len(selection.tiles)), dtype=np.float32)
    for query in range(len(codes)):
        added = _most_added(_addends(segment, words, query, query + 1), products.shape[1])
        ranks[query] = _ranks(segment.layout, selection.tiles, products[query], added)
    sizes = selection.sizes[selection.tiles].astype(np.uint8)
    told = np.broadcast_to(sizes, ranks.shape)
    if most is not None:
        number = max((len(_most_promising(some, sizes, most)) for some in ranks), default=0)
        best = np.argsort(-ranks, axis=1, kind="stable")[:, :number]
        ranks, told = np.take_along_axis(ranks, best, axis=1), sizes[best]
    return Promises(ranks, told, len(selection))


def shared_out(ranks: list[NDArray[np.float32]], sizes: list[NDArray[np.uint8]], documents: int) -> list[int]:
    """How many documents lie in the most promising tiles of each of several places; of equal ones the first count.

    >>> shared_out([np.array([3.0, 9.0]), np.array([1.0, 9.0, 8.0])], [np.array([32, 5]), np.array([32, 32, 32])], 50)
    [5, 64]
    >>> shared_out([np.array([1.0, 1.0]), np.array([1.0])], [np.array([32, 32]), np.array([32])], 1)
    [32, 0]
    """
    places = np.repeat(np.arange(len(ranks)), [len(some) for some in ranks])
    every = np.concatenate(sizes)
    chosen = _most_promising(np.concatenate(ranks), every, documents)
    return list(map(int, np.bincount(places[chosen], every[chosen], minlength=len(ranks))))


def _most_promising(ranks: NDArray[np.float32], sizes: NDArray[Any], documents: int) -> NDArray[np.int64]:
    """Places of the highest ranks whose sizes add up to so many documents, the best first; of equal ones the first.

    >>> _most_promising(np.array([1.0, 4.0, 2.0, 3.0]), np.array([32, 1, 32, 1]), 3).tolist()
    [1, 3, 2]
    """
    there = int(sizes.sum(dtype=np.int64))
    number = min(len(ranks), -(-documents * len(ranks) // max(1, there)))  # enough if they are filled as the others are
    while number:
        chosen = np.arange(len(ranks))
        if number < len(ranks):
            least = np.partition(ranks, len(ranks) - number)[len(ranks) - number]
            above = np.flatnonzero(ranks > least)
            chosen = np.concatenate([above, np.flatnonzero(ranks == least)[: number - len(above)]])
        chosen = chosen[np.argsort(-ranks[chosen], kind="stable")]
        ends = np.cumsum(sizes[chosen], dtype=np.int64)
        if ends[-1] >= documents or number == len(ranks):
            return chosen[: int(np.searchsorted(ends, documents)) + 1]
        number = min(len(ranks), 2 * number)
    return np.empty(0, dtype=np.int64)


def _ranks(
    layout: Layout, tiles: NDArray[np.int32], products: NDArray[np.float32], added: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How promising each tile is, from the products of all tiles' centres with the mean code."""
    return np.asarray(products[tiles] * layout.tiles.lengths[tiles] + added[tiles])


def _addends(segment: Segment, words: Asked | None, start: int, stop: int) -> NDArray[np.float32] | None:
    return segment.addends(words.some(start, stop)) if words is not None else None


def _most_added(addends: NDArray[np.float32] | None, tiles: int) -> NDArray[np.float32]:
    """The most that words add to a document of each tile, for one query."""
    return addends.reshape(-1, TILE).max(1) if addends is not None else np.zeros(tiles, dtype=np.float32)


def _means(codes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The mean code of each query, and which of its codes are present."""
    present = (codes != 0).any(-1)
    return codes.sum(1) / np.maximum(1, present.sum(1))[:, None], present


def _exactly(segment: Segment, selection: Selection, codes: NDArray[np.float64], wanted: Wanted) -> list[Found]:
    there = len(selection)
    found = []
    at_once = QUERIES_AT_ONCE
    if wanted.words is not None:
        at_once = max(1, min(at_once, ADDENDS_AT_ONCE // max(1, len(segment.live))))
    for start in range(0, len(codes), at_once):
        some = codes[start : start + at_once]
        addends = _addends(segment, wanted.words, start, start + at_once)
        best = segment.documents.search(some, wanted.k, wanted.temperature, selection, addends)
        if segment.layout is not None:
            segment.layout.read_rows(segment.documents.work["screened"])
        found += [
            Found(scores, places, places, -np.inf, False, there, there)
            for scores, places in zip(best.scores, best.indices, strict=True)
        ]
    return found


def _among_neighbours(
    segment: Segment,
    layout: Layout,
    selection: Selection,
    codes: NDArray[np.float64],
    wanted: Wanted,
    numbers: NDArray[np.int64],
) -> list[Found]:
    means, present = _means(codes)
    estimates = layout.centres.estimate(means)
    tiles = selection.tiles
    found = []
    queries = zip(codes, means, estimates, present, numbers, strict=True)
    for place, (query, mean, products, has, number) in enumerate(queries):
        addends = _addends(segment, wanted.words, place, place + 1)
        added = _most_added(addends, len(products))
        chosen = _most_promising(_ranks(layout, tiles, products, added), selection.sizes[tiles], int(number))
        nearby = selection.within(tiles[chosen])
        scores, places = segment.documents.search(query[None], wanted.k, wanted.temperature, nearby, addends)
        layout.read_rows(segment.documents.work["screened"])
        left = np.ones(len(tiles), dtype=bool)
        left[chosen] = False
        bound = _bound(layout, tiles[left], products, mean, query[has], added)
        found.append(Found(scores[0], places[0], places[0], bound, False, len(nearby), len(selection)))
    return found


def _bound(
    layout: Layout,
    tiles: NDArray[np.int32],
    products: NDArray[np.float32],
    mean: NDArray[np.float64],
    codes: NDArray[np.float64],
    added: NDArray[np.float32],
) -> float:
    """No document of these tiles scores above it, with the most that is added in each tile."""
    if not len(tiles):
        return -np.inf
    most = added[tiles].astype(np.float64)
    if not len(codes):
        return float(most.max())
    length = float(np.linalg.norm(mean))
    longest = layout.tiles.longest[tiles].astype(np.float64)
    by_length = float(np.linalg.norm(codes, axis=1).max()) * longest
    if length == 0:
        return float((by_length + most).max())
    # What 8 bits may lose of the mean: at most half a step, of 1/63 of its largest number, in each dimension.
    mean_lost = np.sqrt(len(mean)) * np.abs(mean).max() / 126
    centre_lost = layout.centre_lost[tiles]
    lost = mean_lost * (1 + centre_lost) + length * centre_lost
    cosines = (products[tiles] + lost * (1 + 1e-5)) / length
    part = layout.tiles._replace(longest=layout.tiles.longest[tiles], cosines=layout.tiles.cosines[tiles])
    apart = float(np.linalg.norm(codes - mean, axis=1).max())
    by_cones = reach(part, cosines, length) + apart * longest
    # Tile by tile: the bound of all tiles is then the highest of the bounds of any parts of them.
    return float((np.minimum(by_length, by_cones) * (1 + 1e-9) + most).max())


def concluded(found: Found, k: int) -> Found:
    """What was found in a segment by a search for k, with what follows for all other documents of it."""
    scores = found.scores
    # No document beyond the hits scores above the last hit, if there may be more documents.
    worst = float(scores[-1]) if 0 < len(scores) == k and k < found.there else -np.inf
    certified = len(scores) >= min(k, found.there) and worst >= found.bound
    return found._replace(bound=max(found.bound, worst), certified=certified)


def joined(parts: list[Found], k: int) -> Found:
    """What was found for a query in the slices of a segment, as if it had been searched at once; to be `concluded`."""
    scores = np.concatenate([part.scores for part in parts])
    segments = np.concatenate([part.segments for part in parts])
    places = np.concatenate([part.places for part in parts])
    best = np.lexsort((places, segments, -scores))[:k]
    bound = max(part.bound for part in parts)
    looked_at, there = sum(part.looked_at for part in parts), sum(part.there for part in parts)
    return Found(scores[best], segments[best], places[best], bound, False, looked_at, there)


def merged(parts: list[Found], k: int) -> Found:
    """The best of what was found in several segments, each `concluded`."""
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return Found(np.empty(0), nothing, nothing, -np.inf, True, 0, 0)
    found = joined(parts, k)
    # Beyond a segment's hits nothing is above its bound; and its hits that are not among the k best are known.
    beyond = np.sort(np.concatenate([part.scores for part in parts]))[::-1][k : k + 1]
    bound = max([found.bound, *beyond.tolist()])
    worst = float(found.scores[-1]) if len(found.scores) == k else -np.inf
    certified = all(part.certified for part in parts) or worst >= bound
    return found._replace(bound=min(bound, worst) if certified else bound, certified=certified)


class IndexHit(NamedTuple):
    """A document that a search found."""

    id: str
    score: float
    text: str | None
    metadata: dict[str, Any]
    probability: float | None = None
    """That it is right, where the index was tuned for such a search (`polyencoders tune`)."""


@dataclass(frozen=True)
class Answer:
    """What a search found for a query; a sequence of its hits."""

    hits: list[IndexHit]  # The best first; equal scores by id
    certified: bool  # Whether it is proven that no document scores above the last hit without being among the hits
    bound: float  # No document that is not among the hits scores above it
    looked_at: int  # Documents that were searched
    version: int  # The version of the index
    not_looked_at: int = 0
    """Documents that could not be searched, as they lie on machines that are lost; any of them may be better."""
    first: Answer | None = None
    """What the search found before a reranker read the best of it; `certified`, `bound` and `error` are about that."""
    read: int | None = None
    """Documents that the reranker read; None without one."""

    @property
    def error(self) -> float:
        """The most by which a missed document can score above the last hit; 0 when certified."""
        if self.first is not None:
            return self.first.error
        if self.certified:
            return 0.0
        return max(0.0, self.bound - self.hits[-1].score) if self.hits else float("inf")

    def __iter__(self) -> Iterator[IndexHit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> IndexHit:
        return self.hits[place]


def hits_of(found: Found, read: Callable[[int, int], Record]) -> list[IndexHit]:
    """The hits of a query; `read` gives id, text and metadata of a document by its segment and place."""
    places = zip(found.scores.tolist(), found.segments.tolist(), found.places.tolist(), strict=True)
    records = ((score, *read(segment, place)) for score, segment, place in places)
    hits = [IndexHit(id, score, text, metadata) for score, id, text, metadata in records]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))
