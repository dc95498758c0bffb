"""What an index keeps on disk to be searched at once: vectors in the order of their neighbourhoods, 8 bits of them, and
the records that hits are made of.

Made from one version of the table, in a constant amount of memory; it can be made again at any time. What was added
later is searched beside it, what was deleted is left out. Knows files and vectors; nothing of queries.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import IndexingError
from polyencoders.index.neighbourhoods import (
    MOST_SAMPLED,
    SAMPLED_FOR_EACH,
    Tiles,
    clustering,
    clusters_for,
    described,
    halved,
)
from polyencoders.index.records import Records, RecordWriter, columns_of
from polyencoders.index.storage import Storage
from polyencoders.index.table import Table
from polyencoders.scoring import PreparedDocuments
from polyencoders.scoring.selection import TILE

FOLDER = "search"
NOBODY = np.uint64(2**64 - 1)
"""In place of a row id, where a tile is not full."""

_ABOUT = "layout.json"
_RECORDS = "records.arrow"
_PREPARED_AT_ONCE = 256 * TILE
_ROWS_AT_ONCE = 32_768
_ROWS_IN_MEMORY = 2_000
"""Vectors that searches read before their memory is let go: each may bring 64 KB of its neighbours along."""


class Layout:
    """A layout as it lies on disk: the 8-bit copy and what is known of tiles in memory, the vectors mapped.

    Parameters
    ----------
    folder
        Where `build` wrote it.
    tiles
        The tiles to hold, one after another; all by default.
    """

    def __init__(self, folder: Path, tiles: slice | None = None) -> None:
        self.folder = folder
        self.held = tiles
        """The tiles it was asked to hold; None: all."""
        part = tiles if tiles is not None else slice(None)
        rows = slice(part.start * TILE, part.stop * TILE) if tiles is not None else part
        self.version = _about((folder / _ABOUT).read_bytes)["version"]
        """The version of the table it was made from."""
        self.row_ids: NDArray[np.uint64] = np.array(np.load(folder / "row_ids.npy", mmap_mode="r")[rows])
        self.records = Records.open(folder / _RECORDS)
        self.numbers: NDArray[np.int64] = np.load(folder / "numbers.npy", mmap_mode="r")[rows]
        """By position: the number of the document's record."""
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")[rows]
        self.documents = PreparedDocuments(vectors, folder, rows.start)
        self._mapped: Any = vectors
        self._rows_read = 0
        self.tiles = Tiles(**{name: np.load(folder / f"{name}.npy")[part] for name in Tiles._fields})
        self.centres = PreparedDocuments(self.tiles.centres)
        numbers = {len(self.row_ids), len(self.numbers), len(vectors), len(self.tiles.centres) * TILE}
        if len(numbers) > 1:
            raise ValueError("its files are of different lengths")
        largest = np.abs(self.tiles.centres).max(1, initial=0).astype(np.float64)
        self.centre_lost: NDArray[np.float64] = np.sqrt(vectors.shape[1]) * largest / 254
        """By tile: by how much its centre, of length 1, differs from its 8 bits at most: half a step a dimension."""

    def read_rows(self, number: int) -> None:
        """Say that a search has read so many vectors: after some thousands the system takes back their memory."""
        self._rows_read += number
        if self._rows_read > _ROWS_IN_MEMORY:
            self._rows_read = 0
            _let_go(self._mapped)


def latest(storage: Storage) -> str | None:
    """The name of an index's newest layout."""
    return max(storage.folders(FOLDER), key=lambda name: (version_of(storage, name), name), default=None)


def newest(storage: Storage, before: Layout | None = None) -> Layout | None:
    """The newest layout of an index.

    Parameters
    ----------
    storage
        The index.
    before
        One that was read before, which may be it still.

    Raises
    ------
    IndexingError
        It is damaged.
    """
    name = latest(storage)
    if name is None:
        return None
    if before is not None and before.folder.name == name:
        return before
    try:
        return Layout(storage.local(f"{FOLDER}/{name}"))
    except IndexingError:
        raise  # the storage cannot be reached
    except Exception as error:  # a damaged file makes those who read it raise anything
        # A writer has just put a newer one in its place; or a copy of it is damaged.
        if latest(storage) != name or storage.fetch_again(f"{FOLDER}/{name}"):
            return newest(storage, before)
        said = " ".join(str(error).split())
        raise IndexingError(
            f"{FOLDER}/{name}: the layout cannot be read ({said}); `polyencoders index compact` makes it anew"
        ) from error


def version_of(storage: Storage, name: str) -> int:
    """The version of the table that a layout was made from."""
    return _about(lambda: storage.read(f"{FOLDER}/{name}/{_ABOUT}"))["version"]


def documents_of(storage: Storage, name: str) -> int:
    """How many documents a layout holds."""
    return _about(lambda: storage.read(f"{FOLDER}/{name}/{_ABOUT}"))["documents"]


def _about(read: Callable[[], bytes]) -> dict[str, int]:
    try:
        about = json.loads(read())
        return {"version": int(about["version"]), "documents": int(about["documents"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"version": -1, "documents": 0}  # removed, or damaged: made anew


def build(table: Table, advance: Callable[[int], object] = lambda documents: None) -> None:
    """Make the layout of a version of the table, and remove those before it; to be called under the table's lock.

    Parameters
    ----------
    table
        One version, held fast.
    advance
        Called with a number of documents, three times for each.
    """
    storage = table.storage
    name = _name(storage, table.version)
    with storage.new_folder(f"{FOLDER}/{name}") as scratch:
        _build(table, scratch, advance)
    before = storage.outdated(FOLDER, name)
    if before:
        table.clean(lambda: [storage.remove_folder(f"{FOLDER}/{old}") for old in before])


def _name(storage: Storage, version: int) -> str:
    """Of a new layout: sorts after those of earlier versions, and after those of its own that it takes the place of."""
    start = f"{version:08d}-"
    made = [
        re.match(r"(\d{4})-", name.removeprefix(start)) for name in storage.folders(FOLDER) if name.startswith(start)
    ]
    number = max((int(found[1]) + 1 for found in made if found), default=0)
    return f"{start}{number:04d}-{uuid.uuid4().hex[:8]}"


def _build(table: Table, folder: Path, advance: Callable[[int], object]) -> None:
    n, d = len(table), table.dimension
    clusters = clusters_for(n)
    index = clustering(_sample(table, n, min(MOST_SAMPLED, clusters * SAMPLED_FOR_EACH), advance), clusters)

    # In the order of the table, to be read again cluster by cluster.
    unsorted = _Matrix(folder / "unsorted.npy", n, d)
    row_ids, cluster = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.int32)
    start = 0
    records = RecordWriter(folder / _RECORDS, table.schema)
    for batch in table.batches(["vector", *columns_of(table.schema)]):
        ids, vectors = _vectors(batch)
        records.write(batch)
        stop = start + len(ids)
        unsorted.array[start:stop], row_ids[start:stop] = vectors, ids
        cluster[start:stop] = index.search(vectors, 1)[1][:, 0]
        unsorted.touched(len(ids))
        start = stop
        advance(len(ids))
    records.close()

    order = np.argsort(cluster, kind="stable")
    ends = np.cumsum(np.bincount(cluster, minlength=clusters))
    places = int(sum(-(-size // TILE) * TILE for size in np.diff(ends, prepend=0)))
    laid_out = _Matrix(folder / "vectors.npy", places, d)
    ids_there, numbers = np.full(places, NOBODY, dtype=np.uint64), np.full(places, -1, dtype=np.int64)
    about: list[Tiles] = []
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
        about.append(described(some))
        PreparedDocuments(some).keep(folder)
        laid_out.touched(len(some))
    for name, parts in zip(Tiles._fields, zip(*about, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    np.save(folder / "row_ids.npy", ids_there)
    np.save(folder / "numbers.npy", numbers)
    (folder / _ABOUT).write_text(json.dumps({"version": table.version, "documents": n}))


def _vectors(batch: Any) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
    return batch["_rowid"].to_numpy(), np.ascontiguousarray(flat).reshape(len(batch), -1)


def _sample(table: Table, n: int, wanted: int, advance: Callable[[int], object]) -> NDArray[np.float32]:
    every = max(1, n // wanted)
    picked, seen = [], 0
    for batch in table.batches(["vector"]):
        ids, vectors = _vectors(batch)
        picked.append(vectors[-seen % every :: every].copy())
        seen += len(ids)
        advance(len(ids))
    return np.concatenate(picked)


class _Matrix:
    """An array in a file as it is written; what was written need not stay in memory."""

    def __init__(self, path: Path, n: int, d: int) -> None:
        self.path = path
        self._rows = 0
        self.array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here; while writing to memory it would be a crash
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)

    def touched(self, rows: int) -> None:
        """Say that so many rows were read or written: now and then the system takes back their memory."""
        self._rows += rows
        if self._rows >= _ROWS_AT_ONCE:
            self._rows = 0
            self.array.flush()
            _let_go(self.array)

    def remove(self) -> None:
        """Delete the file."""
        self.array = None
        self.path.unlink()


def _let_go(mapped: Any) -> None:
    """Have the system take back the memory of a mapped file; what is read again comes from its cache, or the disk."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)
