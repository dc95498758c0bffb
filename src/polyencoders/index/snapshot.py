"""One version of an index, held for searching: its vectors in segments, and which of their documents are there."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.encoders.words import Postings, Totals
from polyencoders.index.documents import Record, Records, columns_of
from polyencoders.index.layout import NOBODY, Layout
from polyencoders.index.table import Table, vectors_in
from polyencoders.index.words import Asked
from polyencoders.scoring import PreparedDocuments, Selection
from polyencoders.scoring.selection import TILE

LAID_OUT, BESIDE = 0, 1  # The two segments of a version: what its layout holds, and what it does not

_READ_AT_ONCE = 16_384
_FILTERS_KEPT = 16


@dataclass
class Segment:
    """Documents that are searched together."""

    documents: PreparedDocuments
    row_ids: NDArray[np.uint64]  # By position: the document's row id in the table
    live: NDArray[np.bool_]  # By position: whether the document is there in this version
    records: Records
    numbers: NDArray[np.int64]  # By position: the number of the document's record
    number: int  # LAID_OUT or BESIDE
    first: int = 0  # The place of its first document in the whole index, of which a slice holds a part
    layout: Layout | None = None  # The layout that holds them, whose tiles can be searched apart
    language: str = "none"  # Of the documents' words
    everything: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.everything = Selection(self.live)
        self._reading = threading.Lock()
        self._postings = self.layout.postings if self.layout is not None else None

    @property
    def postings(self) -> Postings:
        """The words of its documents; read when they are first asked for, if the layout does not keep them."""
        with self._reading:
            if self._postings is None:
                texts = [*self.records.texts(), ""]  # a number of -1, nobody's, finds the last
                self._postings = Postings.of((texts[number] for number in self.numbers), self.language)
            return self._postings

    @cached_property
    def _length(self) -> int:
        """Words of all documents that are there."""
        return int(self.postings.lengths[self.live].sum(dtype=np.int64))

    def totals(self, words: Iterable[str]) -> Totals:
        """What BM25 needs to know of the documents that are there."""
        having = {word: int(np.count_nonzero(self.live[self.postings.having(word)[0]])) for word in words}
        return Totals(len(self.everything), self._length, having)

    def addends(self, asked: Asked) -> NDArray[np.float32]:
        """What words add to the score of each document for each query, `(q, n)`."""
        assert asked.totals is not None
        return np.float32(asked.weight) * self.postings.fit(asked.queries, asked.totals)


class Snapshot:
    """A version of the table, held fast, with its vectors ready; or a slice of it: `part`, from 0, of `parts`."""

    layout: Layout | None

    def __init__(self, table: Table, layout: Layout | None, part: int = 0, parts: int = 1) -> None:
        self._begin(table)
        self.layout = layout
        live: NDArray[np.uint64] | None = None
        if layout is None or layout.version != self.version:  # else the layout holds exactly what is there
            live = np.sort(table.row_ids())
        if layout is not None:
            ids = layout.row_ids
            there = ids != NOBODY
            if live is not None:
                there &= among(ids, live)
                everyone = np.load(layout.folder / "row_ids.npy", mmap_mode="r") if layout.held is not None else ids
                live = np.setdiff1d(live, everyone)
            first = layout.held.start * TILE if layout.held is not None else 0
            self.segments.append(
                Segment(
                    layout.documents,
                    ids,
                    there,
                    layout.records,
                    layout.numbers,
                    LAID_OUT,
                    first,
                    layout,
                    table.language,
                )
            )
        self.beside = 0  # Documents that the layout does not hold
        if live is not None:
            mine = cut(len(live), part, parts)
            self.beside = mine.stop - mine.start
            if self.beside:
                self.segments.append(_read(table, live[mine], mine.start))
        self.size = sum(len(segment.everything) for segment in self.segments)

    def _begin(self, table: Table) -> None:
        self.table = table
        self.version = table.version
        self.layout = None
        self.segments: list[Segment] = []
        self._filters: OrderedDict[str, Future[list[Selection]]] = OrderedDict()
        self._filtering = threading.Lock()

    def read(self, segment: int, place: int) -> Record:
        """Id, text and metadata of a document."""
        found = self.segments[segment]
        return found.records.read(int(found.numbers[place]))

    def totals(self, words: Iterable[str]) -> Totals:
        """What BM25 needs to know of all documents."""
        return Totals.sum(segment.totals(words) for segment in self.segments)

    def selections(self, where: str | None) -> list[Selection]:
        """By segment: the documents that a filter finds; all that are there without one."""
        if where is None:
            return [segment.everything for segment in self.segments]
        with self._filtering:  # not while it is evaluated: other filters are kept already, or evaluated beside it
            fresh = where not in self._filters
            made = self._filters.setdefault(where, Future())
            self._filters.move_to_end(where)
            while len(self._filters) > _FILTERS_KEPT:
                self._filters.popitem(last=False)
        if fresh:
            try:
                found = np.sort(self.table.row_ids(where))
                made.set_result([Selection(one.live & among(one.row_ids, found)) for one in self.segments])
            except BaseException as error:
                with self._filtering:  # it may be evaluated the next time
                    if self._filters.get(where) is made:
                        del self._filters[where]
                made.set_exception(error)
        return made.result()


def among(row_ids: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which row ids are among others, which are sorted."""
    if not len(others):
        return np.zeros(len(row_ids), dtype=bool)
    return np.asarray(others[np.minimum(np.searchsorted(others, row_ids), len(others) - 1)] == row_ids)


def cut(number: int, part: int, parts: int) -> slice:
    """The range of one of the parts into which a row of things is cut.

    >>> [cut(10, part, 3) for part in range(3)]
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    return slice(number * part // parts, number * (part + 1) // parts)


def _read(table: Table, row_ids: NDArray[np.uint64], first: int) -> Segment:
    """A segment of the documents with these row ids, in the order given, read from the table."""
    vectors = np.empty((len(row_ids), table.dimension), dtype=np.float32)
    batches = []
    columns = columns_of(table.schema)
    for start in range(0, len(row_ids), _READ_AT_ONCE):
        some = row_ids[start : start + _READ_AT_ONCE]
        rows = table.take(some.tolist(), ["vector", *columns])
        vectors[start : start + len(some)] = vectors_in(rows)
        batches += rows.select(columns).to_batches()
    there, numbers = np.ones(len(row_ids), dtype=bool), np.arange(len(row_ids))
    records = Records(batches, table.schema)
    pa.default_memory_pool().release_unused()  # of the vectors' columns: Arrow would keep it for later
    return Segment(PreparedDocuments(vectors), row_ids, there, records, numbers, BESIDE, first, language=table.language)
