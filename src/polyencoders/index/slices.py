"""A slice of one version of an index: some of its tiles, and some of the documents beside the layout.

Several processes hold all slices between them: each document is in exactly one slice, and keeps the place that it has
in the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.index import searching
from polyencoders.index.layout import NOBODY, Layout
from polyencoders.index.layout_storage import latest, local
from polyencoders.index.records import Record
from polyencoders.index.searching import Found, Promises, Wanted
from polyencoders.index.snapshot import Segment, Snapshot, among, read_from
from polyencoders.index.table import Table
from polyencoders.scoring.selection import TILE

LAID_OUT, BESIDE = 0, 1
"""Numbers of the two segments: the same in every slice, in the order that they have on one machine."""


class View(NamedTuple):
    """What is cut into slices. Only slices of the same view fit together."""

    version: int
    """The version of the table."""
    layout: str | None
    """The name of the layout; None: there is none."""

    @classmethod
    def of(cls, table: Table) -> View:
        """A version of the table with the newest layout."""
        return cls(table.version, latest(table.storage))


class Slice(Snapshot):
    """One of the parts into which a view is cut, with its vectors ready.

    Parameters
    ----------
    table
        The view's version, held fast.
    view
        What is cut.
    part, parts
        Which part, from 0, of how many.
    before
        The same part of an earlier view, whose layout need not be read again.

    Raises
    ------
    OSError, ValueError
        The layout is not there any more, or damaged.
    """

    def __init__(self, table: Table, view: View, part: int, parts: int, before: Slice | None = None) -> None:
        self._begin(table)
        self.view = view
        self.firsts: list[int] = []
        """By segment: the place in the whole of its first document."""
        self.numbers: list[int] = []
        """By segment: its number in the whole."""
        live: NDArray[np.uint64] | None = None
        if view.layout is not None:
            folder = local(table.storage, view.layout)
            everyone = np.load(folder / "row_ids.npy", mmap_mode="r")
            tiles = _cut(len(everyone) // TILE, part, parts)
            held = before.layout if before is not None else None
            if held is None or held.folder != folder or held.held != tiles:
                held = Layout(folder, tiles)
            self.layout = held
            ids = held.row_ids
            there = ids != NOBODY
            if held.version != view.version:
                live = np.sort(table.row_ids())
                there &= among(ids, live)
                live = np.setdiff1d(live, everyone)
            segment = Segment(held.documents, ids, there, held.records, held.numbers, held)
            self._hold(segment, tiles.start * TILE, LAID_OUT)
        else:
            live = np.sort(table.row_ids())
        self.beside = 0
        if live is not None:
            mine = _cut(len(live), part, parts)
            self.beside = mine.stop - mine.start
            if self.beside:
                self._hold(read_from(table, live[mine]), mine.start, BESIDE)
        self.size = sum(len(segment.everything) for segment in self.segments)

    def _hold(self, segment: Segment, first: int, number: int) -> None:
        self.segments.append(segment)
        self.firsts.append(first)
        self.numbers.append(number)

    def promises(self, codes: NDArray[np.float64], where: str | None = None, most: int | None = None) -> Promises:
        """How promising its tiles are to each query; see `searching.promises`."""
        if self.layout is None:
            return Promises(np.empty((len(codes), 0), dtype=np.float32), 0, 0)
        return searching.promises(self.layout, self.selections(where)[0], codes, most)

    def find(
        self, codes: NDArray[np.float64], wanted: Wanted, number: NDArray[np.int64] | None = None
    ) -> list[dict[int, Found]]:
        """The best documents of each query by segment, with segments and places as in the whole, yet to be joined.

        `codes` and `wanted` are as for `searching.find`. `number`, `(q,)`, says how many of its tiles to look at; None:
        all.
        """
        numbers = [number if of == LAID_OUT else None for of in self.numbers]
        return [
            {self.numbers[place]: self._in_the_whole(place, found) for place, found in enumerate(parts)}
            for parts in searching.in_segments(self, codes, wanted, numbers)
        ]

    def _in_the_whole(self, place: int, found: Found) -> Found:
        segments = np.full(len(found.places), self.numbers[place])
        return found._replace(segments=segments, places=found.places + self.firsts[place])

    def read_in_the_whole(self, segment: int, place: int) -> Record:
        """Id, text and metadata of a document that `find` gave."""
        number = self.numbers.index(segment)
        return self.read(number, place - self.firsts[number])


def _cut(number: int, part: int, parts: int) -> slice:
    """The range of one of the parts into which a row of things is cut.

    >>> [_cut(10, part, 3) for part in range(3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    return slice(number * part // parts, number * (part + 1) // parts)
