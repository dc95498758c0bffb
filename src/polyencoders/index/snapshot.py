"""One version of an index, held for searching: its vectors in segments, and which of their documents are there."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyencoders.index.layout import NOBODY, Layout
from polyencoders.index.layout_storage import newest
from polyencoders.index.records import Record, Records, columns_of
from polyencoders.index.table import Table, vectors_in
from polyencoders.scoring import PreparedDocuments, Selection

_READ_AT_ONCE = 16_384
_FILTERS_KEPT = 16


@dataclass
class Segment:
    """Documents that are searched together."""

    documents: PreparedDocuments
    row_ids: NDArray[np.uint64]
    """By position: the document's row id in the table."""
    live: NDArray[np.bool_]
    """By position: whether the document is there in this version."""
    records: Records
    numbers: NDArray[np.int64]
    """By position: the number of the document's record."""
    layout: Layout | None = None
    """The layout that holds them, whose tiles can be searched apart."""
    everything: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.everything = Selection(self.live)

    def among(self, row_ids: NDArray[np.uint64]) -> Selection:
        """The live documents with one of these row ids, which are sorted."""
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
            live = self.layout.row_ids[self.layout.row_ids != NOBODY]  # exactly these: no need to ask the table
        else:
            live = table.row_ids()
        live = np.sort(live)
        self.size = len(live)
        if (held := self.layout) is not None:
            ids = held.row_ids
            there = among(ids, live) & (ids != NOBODY)
            self.segments.append(Segment(held.documents, ids, there, held.records, held.numbers, held))
            live = np.setdiff1d(live, ids[there], assume_unique=True)
        self.beside = len(live)
        """Documents that the layout does not hold."""
        if len(live):
            self.segments.append(read_from(table, live))

    def _begin(self, table: Table) -> None:
        """Begin without documents."""
        self.table = table
        self.version = table.version
        self.layout = None
        self.segments: list[Segment] = []
        self._filters: OrderedDict[str, list[Selection]] = OrderedDict()
        self._filtering = threading.Lock()

    def read(self, segment: int, place: int) -> Record:
        """Id, text and metadata of a document."""
        found = self.segments[segment]
        return found.records.read(int(found.numbers[place]))

    def selections(self, where: str | None) -> list[Selection]:
        """By segment: the documents that a filter finds; all that are there without one."""
        if where is None:
            return [segment.everything for segment in self.segments]
        with self._filtering:
            if where not in self._filters:
                found = np.sort(self.table.row_ids(where))
                self._filters[where] = [segment.among(found) for segment in self.segments]
                while len(self._filters) > _FILTERS_KEPT:
                    self._filters.popitem(last=False)
            self._filters.move_to_end(where)
            return self._filters[where]


def among(row_ids: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which row ids are among others, which are sorted.

    >>> among(np.array([7, 1, 3], dtype=np.uint64), np.array([1, 2, 3], dtype=np.uint64)).tolist()
    [False, True, True]
    """
    if not len(others):
        return np.zeros(len(row_ids), dtype=bool)
    return others[np.minimum(np.searchsorted(others, row_ids), len(others) - 1)] == row_ids


def read_from(table: Table, row_ids: NDArray[np.uint64]) -> Segment:
    """A segment of the documents with these row ids, in the order given, read from the table."""
    vectors = np.empty((len(row_ids), table.dimension), dtype=np.float32)
    batches = []
    columns = columns_of(table.schema)
    for start in range(0, len(row_ids), _READ_AT_ONCE):
        some = row_ids[start : start + _READ_AT_ONCE]
        rows = table.take(some.tolist(), ["vector", *columns])
        vectors[start : start + len(some)] = vectors_in(rows)
        batches += rows.select(columns).to_batches()
    there = np.ones(len(row_ids), dtype=bool)
    return Segment(PreparedDocuments(vectors), row_ids, there, Records(batches, table.schema), np.arange(len(row_ids)))
