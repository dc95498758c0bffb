"""The words of an index: kept with its layout, and what a search asks of them.

The words of the documents that a layout holds lie in files of it: sorted words, and by word the positions of documents
and how often they have it. Those of other documents are read when a search first asks for words. All totals (`n`, `df`
and the mean length) are of the documents of the version that is searched, wherever they lie, so that a folder, object
storage and shards give the same scores, before and after a layout is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.encoders.words import Postings, Totals, counted, ordered
from polyencoders.index.mapped import Written

_WORDS = "words.arrow"
_ARRAYS = ("ends", "documents", "counts", "lengths")
_POSITIONS_AT_ONCE = 16_384


class Asked(NamedTuple):
    """What the words of some queries are worth."""

    weight: float  # What a document that has all words gets
    queries: list[list[str]]  # The distinct words of each query
    totals: Totals | None = None  # Of all documents; None: not known yet

    @property
    def words(self) -> set[str]:
        return {word for query in self.queries for word in query}

    def some(self, start: int, stop: int) -> Asked:
        """Return the same for the queries from `start` to `stop`."""
        return self._replace(queries=self.queries[start:stop])


class Collected:
    """The words of a table's documents, collected in the order of the table and written in that of a layout."""

    def __init__(self, folder: Path, language: str) -> None:
        self._folder, self._language = folder, language
        self._numbers: dict[str, int] = {}
        self._having = np.zeros(0, dtype=np.int64)
        self._distinct: list[NDArray[np.int32]] = []
        self._lengths: list[NDArray[np.int32]] = []
        self._listed, self._counts = folder / "listed.unsorted", folder / "counts.unsorted"
        self._listed.touch()
        self._counts.touch()

    def add(self, texts: Sequence[str | None]) -> None:
        """Add the words of the next documents."""
        found, counts, distinct, lengths = counted((text or "" for text in texts), self._language, self._numbers)
        self._having = np.bincount(found, minlength=len(self._numbers)) + np.pad(
            self._having, (0, len(self._numbers) - len(self._having))
        )
        self._distinct.append(distinct)
        self._lengths.append(lengths)
        for file, array in ((self._listed, found), (self._counts, counts)):
            with file.open("ab") as stream:
                stream.write(array.data)

    def write(self, numbers: NDArray[np.int64]) -> None:
        """Write them for documents in another order: `numbers` by position; -1: none."""
        words, ends, ranks = ordered(self._numbers, self._having)
        array = pa.array(words, pa.large_string())
        with pa.OSFile(str(self._folder / _WORDS), "wb") as file:
            table = pa.table({"word": array})
            with pa.ipc.new_file(file, table.schema) as stream:
                stream.write_table(table)
        distinct, lengths = np.concatenate(self._distinct), np.concatenate(self._lengths)
        there = numbers >= 0
        np.save(_file(self._folder, "ends"), ends)
        np.save(_file(self._folder, "lengths"), np.where(there, lengths[numbers], 0).astype(np.int32))
        total = int(ends[-1])
        documents = Written(_file(self._folder, "documents"), (total,), np.int32)
        counts = Written(_file(self._folder, "counts"), (total,), np.uint16)
        begins = np.cumsum(distinct, dtype=np.int64) - distinct

        def parts() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
            listed = np.fromfile(self._listed, np.int32) if not total else np.memmap(self._listed, np.int32, "r")
            counted = np.fromfile(self._counts, np.uint16) if not total else np.memmap(self._counts, np.uint16, "r")
            for start in range(0, len(numbers), _POSITIONS_AT_ONCE):
                some = start + np.flatnonzero(there[start : start + _POSITIONS_AT_ONCE])
                sizes = distinct[numbers[some]]
                of_each = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
                at = np.repeat(begins[numbers[some]], sizes) + of_each
                yield ranks[listed[at]], np.repeat(some, sizes), counted[at]
                documents.touched(len(at))
                counts.touched(len(at))

        Postings(words, ends, documents.array, counts.array, lengths).fill(parts())
        documents.array.flush()
        counts.array.flush()
        self._listed.unlink()
        self._counts.unlink()


class _Mapped(Sequence[str]):
    """Sorted words in a file, which is mapped into memory."""

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._words = reader.read_all()["word"]

    def __len__(self) -> int:
        return len(self._words)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        found = self._words[place]
        return found.to_pylist() if isinstance(place, slice) else str(found.as_py())


def kept_postings(folder: Path, rows: slice) -> Postings | None:
    """The words that a layout keeps, of a range of its positions; None if it keeps none."""
    if not (folder / _WORDS).exists():
        return None
    ends, documents, counts, lengths = (np.load(_file(folder, name), mmap_mode="r") for name in _ARRAYS)
    return Postings(_Mapped(folder / _WORDS), ends, documents, counts, np.array(lengths[rows]), rows.start or 0)


def _file(folder: Path, name: str) -> Path:
    return folder / f"words.{name}.npy"
