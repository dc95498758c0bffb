"""Exact search, fast search, and what can be said of what a fast search did not look at.

Exact: the kernel finds the k best of all documents, proven. Fast: only the tiles of neighbours whose centres the mean
code likes best are searched. Of the others it is known in what cone about its centre a tile lies, which bounds every
score in it: `score <= max_i y_i . c <= mean(y) . c + max_i |y_i - mean(y)| |c|`. Where that bound is below the k-th
score found, the answer is certified.

Knows snapshots and vectors; nothing of text or models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.index.layout import Layout
from polyencoders.index.neighbourhoods import reach
from polyencoders.index.snapshot import Segment, Snapshot
from polyencoders.scoring import Selection

SHARE = 0.07
"""Of the documents, that a fast search looks at."""

QUERIES_AT_ONCE = 32
"""Queries that are searched in one pass over the documents."""

LEAST = 40_000
"""Documents that a fast search looks at, unless it is told a share: of fewer it would miss more than it saves time."""


class Found(NamedTuple):
    """The best documents of one query, best first."""

    scores: NDArray[np.float64]
    segments: NDArray[np.int64]
    places: NDArray[np.int64]
    """Of each: the segment it is in, and the position there."""
    bound: float
    """No document that is not among them scores above it."""
    certified: bool
    looked_at: int
    """Documents that were searched."""


def find(
    snapshot: Snapshot,
    codes: NDArray[np.float64],
    k: int,
    temperature: float,
    where: str | None = None,
    share: float | None = None,
    least: int = 0,
) -> list[Found]:
    """The best documents of each query.

    Parameters
    ----------
    snapshot
        What is searched.
    codes
        `(q, m, d)`; a code of zeros is absent.
    k
        How many; all there are, where they are fewer.
    temperature
        Of the softmax over the codes.
    where
        A filter: only documents it finds are hits.
    share
        Of the documents to look at; None: exact.
    least
        Documents to look at, if the share is of fewer; k in any case.
    """
    return [merged(parts, k) for parts in in_segments(snapshot, codes, k, temperature, where, share, least)]


def in_segments(
    snapshot: Snapshot,
    codes: NDArray[np.float64],
    k: int,
    temperature: float,
    where: str | None = None,
    share: float | None = None,
    least: int = 0,
) -> list[list[Found]]:
    """The best documents of each query in each segment by itself; parameters as for `find`."""
    parts: list[list[Found]] = [[] for _ in codes]
    for number, selection in enumerate(snapshot.selections(where)):
        segment = snapshot.segments[number]
        wanted = len(selection) if share is None else max(least, k, round(share * len(selection)))
        if segment.layout is None or wanted >= len(selection):
            some = _exactly(segment, selection, codes, k, temperature)
        else:
            some = _among_neighbours(segment, segment.layout, selection, codes, k, temperature, wanted)
        for part, found in zip(parts, some, strict=True):
            part.append(found._replace(segments=np.full(len(found.places), number)))
    return parts


def _exactly(
    segment: Segment, selection: Selection, codes: NDArray[np.float64], k: int, temperature: float
) -> list[Found]:
    certain = len(selection)
    found = []
    for start in range(0, len(codes), QUERIES_AT_ONCE):
        best = segment.documents.search(codes[start : start + QUERIES_AT_ONCE], k, temperature, selection)
        if segment.layout is not None:
            segment.layout.read_rows(segment.documents.work["screened"])
        found += [
            Found(scores, places, places, _worst(scores, k, certain), True, certain)
            for scores, places in zip(best.scores, best.indices, strict=True)
        ]
    return found


def _among_neighbours(
    segment: Segment,
    layout: Layout,
    selection: Selection,
    codes: NDArray[np.float64],
    k: int,
    temperature: float,
    wanted: int,
) -> list[Found]:
    present = (codes != 0).any(-1)
    means = codes.sum(1) / np.maximum(1, present.sum(1))[:, None]
    liked = layout.centres.estimate(means)
    there = selection.tiles
    number = min(len(there), -(-wanted * len(there) // len(selection)))
    found = []
    for query, mean, products, has in zip(codes, means, liked, present, strict=True):
        rank = products[there] * layout.tiles.lengths[there]
        chosen = np.argpartition(-rank, number - 1)[:number] if number < len(there) else np.arange(len(there))
        best_first = there[chosen[np.argsort(-rank[chosen])]]
        nearby = selection.within(best_first)
        scores, places = segment.documents.search(query[None], k, temperature, nearby)
        layout.read_rows(segment.documents.work["screened"])
        left = np.ones(len(there), dtype=bool)
        left[chosen] = False
        bound = _bound(layout, there[left], products, mean, query[has])
        worst = _worst(scores[0], k, len(selection))
        certified = len(scores[0]) >= min(k, len(selection)) and worst >= bound
        looked_at = len(nearby)
        found.append(Found(scores[0], places[0], places[0], max(bound, worst), certified, looked_at))
    return found


def _bound(
    layout: Layout,
    tiles: NDArray[np.int32],
    products: NDArray[np.float32],
    mean: NDArray[np.float64],
    codes: NDArray[np.float64],
) -> float:
    """No document of these tiles scores above it."""
    if not len(tiles):
        return -np.inf
    if not len(codes):
        return 0.0
    length = float(np.linalg.norm(mean))
    longest = float(layout.tiles.longest[tiles].max())
    by_length = float(np.linalg.norm(codes, axis=1).max()) * longest
    if length == 0:
        return by_length
    # What 8 bits may lose: of the mean at most half a step, of 1/63 of its largest number, in each dimension.
    mean_lost = np.sqrt(len(mean)) * np.abs(mean).max() / 126
    lost = mean_lost * (1 + layout.centre_lost) + length * layout.centre_lost
    cosines = (products[tiles] + lost * (1 + 1e-5)) / length
    part = layout.tiles._replace(longest=layout.tiles.longest[tiles], cosines=layout.tiles.cosines[tiles])
    apart = float(np.linalg.norm(codes - mean, axis=1).max())
    by_cones = float((reach(part, cosines, length) + apart * part.longest).max())
    return min(by_length, by_cones) * (1 + 1e-9)


def _worst(scores: NDArray[np.float64], k: int, there: int) -> float:
    """What no document beyond the hits scores above: the last hit's score, where there may be more of them."""
    return float(scores[-1]) if 0 < len(scores) == k and k < there else -np.inf


def merged(parts: list[Found], k: int) -> Found:
    """The best of what was found in several places."""
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return Found(np.empty(0), nothing, nothing, -np.inf, True, 0)
    scores = np.concatenate([part.scores for part in parts])
    segments = np.concatenate([part.segments for part in parts])
    places = np.concatenate([part.places for part in parts])
    order = np.lexsort((places, segments, -scores))
    best, rest = order[:k], order[k:]
    # Beyond a part's hits nothing is above its bound; and its hits that are not among the k best are known.
    bound = max([part.bound for part in parts] + ([float(scores[rest[0]])] if len(rest) else []))
    worst = float(scores[best[-1]]) if len(best) == k else -np.inf
    certified = all(part.certified for part in parts) or worst >= bound
    looked_at = sum(part.looked_at for part in parts)
    bound = min(bound, worst) if certified else bound
    return Found(scores[best], segments[best], places[best], bound, certified, looked_at)


def rejoined(parts: list[Found], k: int, exact: bool) -> Found:
    """What was found in the shares of one segment, as if the segment had been searched by itself.

    Parameters
    ----------
    parts
        Of one query, with places in the whole segment.
    k
        How many were looked for.
    exact
        Whether every share was searched exactly: then all that is beyond the hits is known to be no better.
    """
    found = merged(parts, k)
    return found._replace(bound=_worst(found.scores, k, found.looked_at)) if exact else found
