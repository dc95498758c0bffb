"""One version of an index, held for searching: its vectors in segments, and which of their documents are there.

Knows the table, the layout and filters; what a search makes of them is in `searching.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyencoders.index.layout import NOBODY, Layout, latest
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
    layout: Layout | None = None
    """Whether neighbours lie together, and what is known of them."""
    everything: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.everything = Selection(self.live)

    def those(self, row_ids: NDArray[np.uint64]) -> Selection:
        """The live documents among these; `row_ids` are sorted."""
        places = np.minimum(np.searchsorted(row_ids, self.row_ids), max(0, len(row_ids) - 1))
        return Selection(self.live & (row_ids[places] == self.row_ids) if len(row_ids) else np.zeros_like(self.live))


class Snapshot:
    """A version of the table with its vectors ready.

    Parameters
    ----------
    table
        One version, held fast.
    before
        An earlier snapshot, whose layout need not be read again.
    """

    def __init__(self, table: Table, before: Snapshot | None = None) -> None:
        self.table = table
        self.version = table.version
        self.layout = self._layout(before)
        self.segments: list[Segment] = []
        self._filters: OrderedDict[str, list[Selection]] = OrderedDict()
        live = np.sort(table.row_ids())
        self.size = len(live)
        if self.layout is not None:
            ids = self.layout.row_ids
            places = np.minimum(np.searchsorted(live, ids), max(0, len(live) - 1))
            there = (live[places] == ids) & (ids != NOBODY) if len(live) else np.zeros(len(ids), dtype=bool)
            self.segments.append(Segment(self.layout.documents, ids, there, self.layout))
            live = np.setdiff1d(live, ids[there], assume_unique=True)
        self.beside = len(live)
        """Documents that no layout holds."""
        if len(live):
            vectors = np.empty((len(live), table.dimension), dtype=np.float32)
            for start in range(0, len(live), _READ_AT_ONCE):
                some = live[start : start + _READ_AT_ONCE]
                flat = table.take(some.tolist(), ["vector"])["vector"].combine_chunks().flatten()
                vectors[start : start + len(some)] = flat.to_numpy(zero_copy_only=False).reshape(len(some), -1)
            self.segments.append(Segment(PreparedDocuments(vectors), live, np.ones(len(live), dtype=bool)))

    def selections(self, where: str | None) -> list[Selection]:
        """Of each segment the documents that a filter finds; all that are there without one."""
        if where is None:
            return [segment.everything for segment in self.segments]
        if where not in self._filters:
            found = np.sort(self.table.row_ids(where))
            self._filters[where] = [segment.those(found) for segment in self.segments]
            while len(self._filters) > _FILTERS_KEPT:
                self._filters.popitem(last=False)
        self._filters.move_to_end(where)
        return self._filters[where]

    def _layout(self, before: Snapshot | None) -> Layout | None:
        folder = latest(self.table.path)
        if folder is None:
            return None
        if before is not None and before.layout is not None and before.layout.folder == folder:
            return before.layout
        try:
            return Layout(folder)
        except FileNotFoundError:
            return self._layout(before)  # a writer has just put a newer one in its place
