"""What a search returns: an answer for each query, with its hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from polyencoders.index.records import Record
from polyencoders.index.searching import Found


class IndexHit(NamedTuple):
    """A document that a search found."""

    id: str
    score: float
    text: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a search found for a query; a sequence of its hits."""

    hits: list[IndexHit]
    """The best first; equal scores by id."""
    certified: bool
    """Whether it is proven that no document scores above the last hit without being among the hits."""
    bound: float
    """No document that is not among the hits scores above it."""
    looked_at: int
    """Documents that were searched."""
    version: int
    """The version of the index."""
    not_looked_at: int = 0
    """Documents that could not be searched, as they lie on machines that are lost; any of them may be better."""

    @property
    def error(self) -> float:
        """The most by which a missed document can score above the last hit; 0 when certified."""
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
