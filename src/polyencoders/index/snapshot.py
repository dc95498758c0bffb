"""One version of an index, held for searching: its vectors in segments, and which of their documents are there.

Knows the table, the layout and filters; what a search makes of them is in `searching.py`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.index.layout import NOBODY, Layout
from polyencoders.index.layout_storage import newest
from polyencoders.index.records import Records, columns_of, gathered
from polyencoders.index.table import Table
from polyencoders.scoring import PreparedDocuments, Selection

_READ_AT_ONCE = 16_384
_FILTERS_KEPT = 16


@dataclass
class Segment:
    """Documents that are searched together."""

    documents: PreparedDocuments
    row_ids: NDArray[np.uint64]
    """By position: where the document lies in the table."""
    live: NDArray[np.bool_]
    """By position: whether the document is there, in this version."""
    records: Records
    numbers: NDArray[np.int64]
    """By position: the number of the document's record."""
    layout: Layout | None = None
    """Whether neighbours lie together, and what is known of them."""
    everything: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.everything = Selection(self.live)

    def those(self, row_ids: NDArray[np.uint64]) -> Selection:
        """The live documents among these; `row_ids` are sorted."""
        return Selection(self.live & among(self.row_ids, row_ids))


class Snapshot:
    """A version of the table with its vectors ready.

    Parameters
    ----------
    table
        One version, held fast.
    before
        An earlier snapshot, whose layout need not be read again.
    """

    layout: Layout | None

    def __init__(self, table: Table, before: Snapshot | None = None) -> None:
        self._begin(table)
        self.layout = newest(table.storage, before.layout if before is not None else None)
        if self.layout is not None and self.layout.version == self.version:
            live = self.layout.row_ids[self.layout.row_ids != NOBODY]  # just those: no need to ask
        else:
            live = table.row_ids()
        live = np.sort(live)
        self.size = len(live)
        if self.layout is not None:
            ids = self.layout.row_ids
            there = among(ids, live) & (ids != NOBODY)
            held = self.layout
            self.segments.append(Segment(held.documents, ids, there, held.records, held.numbers, held))
            live = np.setdiff1d(live, ids[there], assume_unique=True)
        self.beside = len(live)
        """Documents that no layout holds."""
        if len(live):
            self.segments.append(read_from(table, live))

    def _begin(self, table: Table) -> None:
        """With no documents yet."""
        self.table = table
        self.version = table.version
        self.layout = None
        self.segments: list[Segment] = []
        self._filters: OrderedDict[str, list[Selection]] = OrderedDict()
        self._filtering = threading.Lock()

    def read(self, segment: int, place: int) -> tuple[str, str | None, dict[str, Any]]:
        """Id, text and metadata of a document."""
        found = self.segments[segment]
        return found.records.read(int(found.numbers[place]))

    def selections(self, where: str | None) -> list[Selection]:
        """Of each segment the documents that a filter finds; all that are there without one."""
        if where is None:
            return [segment.everything for segment in self.segments]
        with self._filtering:
            if where not in self._filters:
                found = np.sort(self.table.row_ids(where))
                self._filters[where] = [segment.those(found) for segment in self.segments]
                while len(self._filters) > _FILTERS_KEPT:
                    self._filters.popitem(last=False)
            self._filters.move_to_end(where)
            return self._filters[where]


def among(row_ids: NDArray[np.uint64], those: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of some documents are among others, that are sorted.

    >>> among(np.array([7, 1, 3], dtype=np.uint64), np.array([1, 2, 3], dtype=np.uint64)).tolist()
    [False, True, True]
    """
    if not len(those):
        return np.zeros(len(row_ids), dtype=bool)
    return those[np.minimum(np.searchsorted(those, row_ids), len(those) - 1)] == row_ids


def read_from(table: Table, row_ids: NDArray[np.uint64]) -> Segment:
    """A segment of documents that are read from the table: those at these places, in the order given."""
    vectors = np.empty((len(row_ids), table.dimension), dtype=np.float32)
    records = []
    columns = columns_of(table.schema)
    for start in range(0, len(row_ids), _READ_AT_ONCE):
        some = row_ids[start : start + _READ_AT_ONCE]
        rows = table.take(some.tolist(), ["vector", *columns])
        flat = rows["vector"].combine_chunks().flatten()
        vectors[start : start + len(some)] = flat.to_numpy(zero_copy_only=False).reshape(len(some), -1)
        records.append(rows.select(columns))
    there = np.ones(len(row_ids), dtype=bool)
    known = gathered(records, table.schema)
    return Segment(PreparedDocuments(vectors), row_ids, there, known, np.arange(len(row_ids)))
