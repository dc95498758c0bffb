"""One layout: vectors in the order of their neighbourhoods, an 8-bit copy of them, and the records of hits.

A layout is made from one version of the table, in a constant amount of memory, and can be made again at any time.
Documents added later are searched beside it, deleted ones are left out.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.index.neighbourhoods import (
    MOST_SAMPLED,
    SAMPLED_FOR_EACH,
    Tiles,
    clustering,
    clusters_for,
    described,
    halved,
)
from polyencoders.index.records import Records, columns_of
from polyencoders.index.table import Table, vectors_in
from polyencoders.scoring import PreparedDocuments
from polyencoders.scoring.selection import TILE

NOBODY = np.uint64(2**64 - 1)  # Stands for a row id where a tile is not full
ABOUT = "layout.json"

_RECORDS = "records.arrow"
_PREPARED_AT_ONCE = 256 * TILE
_ROWS_AT_ONCE = 32_768
_ROWS_IN_MEMORY = 2_000
"""Vectors that searches read before their memory is released: each may bring 64 KB of its neighbours along."""


class Layout:
    """A layout that `build` wrote: the 8-bit copy and the descriptions of the tiles in memory, the vectors mapped.

    `tiles` is the range of tiles to hold; all by default.
    """

    def __init__(self, folder: Path, tiles: slice | None = None) -> None:
        self.folder = folder
        self.held = tiles  # The tiles it was asked to hold; None: all
        part = tiles if tiles is not None else slice(None)
        rows = slice(part.start * TILE, part.stop * TILE) if tiles is not None else part
        self.version = about((folder / ABOUT).read_bytes).version  # The version of the table it was made from
        self.row_ids: NDArray[np.uint64] = np.array(np.load(folder / "row_ids.npy", mmap_mode="r")[rows])
        self.records = Records.open(folder / _RECORDS)
        self.numbers: NDArray[np.int64] = np.load(folder / "numbers.npy", mmap_mode="r")[rows]
        """By position: the number of the document's record."""
        self.vectors: Any = np.load(folder / "vectors.npy", mmap_mode="r")[rows]
        self.documents = PreparedDocuments(self.vectors, folder, rows.start)
        self._rows_read = 0
        self.tiles = Tiles(**{name: np.load(folder / f"{name}.npy")[part] for name in Tiles._fields})
        self.centres = PreparedDocuments(self.tiles.centres)
        numbers = {len(self.row_ids), len(self.numbers), len(self.vectors), len(self.tiles.centres) * TILE}
        if len(numbers) > 1:
            raise ValueError("its files are of different lengths")
        largest = np.abs(self.tiles.centres).max(1, initial=0).astype(np.float64)
        self.centre_lost: NDArray[np.float64] = np.sqrt(self.vectors.shape[1]) * largest / 254
        """By tile: the most by which its centre, of length 1, differs from its 8 bits: half a step a dimension."""

    def read_rows(self, number: int) -> None:
        """Tell that a search has read so many vectors: after some thousands the system takes back their memory."""
        self._rows_read += number
        if self._rows_read > _ROWS_IN_MEMORY:
            self._rows_read = 0
            _release(self.vectors)


class About(NamedTuple):
    """What a layout was made of."""

    version: int
    documents: int


def about(read: Callable[[], bytes]) -> About:
    """What a layout was made of; version -1 with 0 documents if it cannot be read, so that it is made anew."""
    try:
        found = json.loads(read())
        return About(int(found["version"]), int(found["documents"]))
    except (OSError, ValueError, KeyError, TypeError):
        return About(-1, 0)


def build(table: Table, folder: Path, advance: Callable[[int], object]) -> None:
    """Write the layout of one version of the table into a folder.

    `advance` is called with numbers of documents, three times for each.
    """
    n, d = len(table), table.dimension
    clusters = clusters_for(n)
    index = clustering(_sample(table, n, min(MOST_SAMPLED, clusters * SAMPLED_FOR_EACH), advance), clusters)

    # First in the order of the table, to be read again cluster by cluster.
    unsorted = _Matrix(folder / "unsorted.npy", n, d)
    row_ids, cluster = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.int32)
    start = 0
    columns = columns_of(table.schema)
    kept = pa.schema([table.schema.field(name) for name in columns])
    with pa.OSFile(str(folder / _RECORDS), "wb") as file, pa.ipc.new_file(file, kept) as records:
        for batch in table.batches(["vector", *columns]):
            vectors = vectors_in(batch)
            records.write_batch(batch.select(columns).cast(kept))
            stop = start + len(batch)
            unsorted.array[start:stop], row_ids[start:stop] = vectors, batch["_rowid"].to_numpy()
            cluster[start:stop] = index.search(vectors, 1)[1][:, 0]
            unsorted.touched(len(batch))
            start = stop
            advance(len(batch))

    order = np.argsort(cluster, kind="stable")
    ends = np.cumsum(np.bincount(cluster, minlength=clusters))
    places = int(sum(-(-size // TILE) * TILE for size in np.diff(ends, prepend=0)))
    laid_out = _Matrix(folder / "vectors.npy", places, d)
    ids_there, numbers = np.full(places, NOBODY, dtype=np.uint64), np.full(places, -1, dtype=np.int64)
    tiles: list[Tiles] = []
    at = 0
    for begin, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        members = order[begin:end]
        some = unsorted.array[members]
        for tile in halved(some) if len(members) else []:
            laid_out.array[at : at + len(tile)] = some[tile]
            ids_there[at : at + len(tile)] = row_ids[members[tile]]
            numbers[at : at + len(tile)] = members[tile]
            at += TILE
        advance(len(members))
        unsorted.touched(len(members))
        laid_out.touched(len(members))
    unsorted.remove()

    for start in range(0, places, _PREPARED_AT_ONCE):
        some = np.array(laid_out.array[start : start + _PREPARED_AT_ONCE])
        tiles.append(described(some))
        PreparedDocuments(some).keep(folder)
        laid_out.touched(len(some))
    for name, parts in zip(Tiles._fields, zip(*tiles, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    np.save(folder / "row_ids.npy", ids_there)
    np.save(folder / "numbers.npy", numbers)
    (folder / ABOUT).write_text(json.dumps({"version": table.version, "documents": n}))


def _sample(table: Table, n: int, wanted: int, advance: Callable[[int], object]) -> NDArray[np.float32]:
    """Every so-many-th vector."""
    every = max(1, n // wanted)
    picked, seen = [], 0
    for batch in table.batches(["vector"]):
        picked.append(vectors_in(batch)[-seen % every :: every].copy())
        seen += len(batch)
        advance(len(batch))
    return np.concatenate(picked)


class _Matrix:
    """An array `(n, d)` in a file as it is written; what was written need not stay in memory."""

    def __init__(self, path: Path, n: int, d: int) -> None:
        self.path = path
        self._rows = 0
        self.array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here; while writing to memory it would be a crash
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)

    def touched(self, rows: int) -> None:
        """Tell that so many rows were read or written: now and then the system takes back their memory."""
        self._rows += rows
        if self._rows >= _ROWS_AT_ONCE:
            self._rows = 0
            self.array.flush()
            _release(self.array)

    def remove(self) -> None:
        """Delete the file."""
        self.array = None
        self.path.unlink()


def _release(mapped: Any) -> None:
    """Have the system take back the memory of a mapped file."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)
