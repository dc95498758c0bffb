"""What an index keeps on disk to be searched at once: vectors in the order of their neighbourhoods, and 8 bits of them.

Made from one version of the table, in a constant amount of memory; it can be made again at any time. What was added
later is searched beside it, what was deleted is left out. Knows files and vectors; nothing of queries.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.files import whole_directory
from polyencoders.index.neighbourhoods import (
    SAMPLED_FOR_EACH,
    Tiles,
    clustering,
    clusters_for,
    described,
    halved,
)
from polyencoders.index.table import Table
from polyencoders.scoring import PreparedDocuments
from polyencoders.scoring.selection import TILE

FOLDER = "search"
NOBODY = np.uint64(2**64 - 1)
"""In place of a row id, where a tile is not full."""

_ABOUT = "layout.json"
_BYTES, _SMALL = "bytes", ("scale", "error", "length")


class Layout:
    """A layout as it lies on disk: the 8-bit copy and what is known of tiles in memory, the vectors mapped.

    Parameters
    ----------
    folder
        Where `build` wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = version_of(folder)
        """The version of the table it was made from."""
        self.row_ids: NDArray[np.uint64] = np.load(folder / "row_ids.npy")
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        kept = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in _SMALL}
        with _quiet():
            kept[_BYTES] = torch.from_numpy(np.load(folder / f"{_BYTES}.npy", mmap_mode="r"))
        # Where it was made without the native kernel there is no copy yet.
        self.documents = PreparedDocuments(vectors, kept if len(kept["scale"]) == len(vectors) else None)
        self.tiles = Tiles(**{name: np.load(folder / f"{name}.npy") for name in Tiles._fields})
        self.centres = PreparedDocuments(self.tiles.centres)


def latest(path: Path) -> Path | None:
    """The folder of an index's newest layout."""
    made = [folder for folder in (path / FOLDER).glob("*") if (folder / _ABOUT).is_file() and _visible(folder)]
    return max(made, key=version_of, default=None)


def version_of(folder: Path) -> int:
    """The version of the table that a layout was made from."""
    return _about(folder)["version"]


def documents_of(folder: Path) -> int:
    """How many documents a layout holds."""
    return _about(folder)["documents"]


def _about(folder: Path) -> dict[str, int]:
    try:
        return dict(json.loads((folder / _ABOUT).read_text()))
    except (OSError, ValueError):
        return {"version": -1, "documents": 0}  # removed, or damaged: made anew


def build(table: Table, advance: Callable[[int], object] = lambda documents: None) -> Path:
    """Make the layout of a version of the table, and remove those before it; to be called under the table's lock.

    Parameters
    ----------
    table
        One version, held fast.
    advance
        Called with a number of documents, three times for each.

    Returns
    -------
    Path
        Its folder.
    """
    root = table.path / FOLDER
    folder = root / f"{table.version:08d}-{uuid.uuid4().hex[:8]}"
    with whole_directory(folder) as scratch:
        _build(table, scratch, advance)
    before = [old for old in root.iterdir() if old != folder]
    if before:
        table.seals.clean(lambda: [shutil.rmtree(old, ignore_errors=True) for old in before])
    return folder


def _build(table: Table, folder: Path, advance: Callable[[int], object]) -> None:
    n, d = len(table), table.dimension
    clusters = clusters_for(n)
    index = clustering(_sample(table, n, clusters * SAMPLED_FOR_EACH, advance), clusters)

    # In the order of the table, to be read again cluster by cluster.
    unsorted = _Matrix(folder / "unsorted.npy", n, d)
    row_ids, cluster = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.int32)
    start = 0
    for ids, vectors in _vectors(table):
        stop = start + len(ids)
        unsorted.array[start:stop], row_ids[start:stop] = vectors, ids
        cluster[start:stop] = index.search(vectors, 1)[1][:, 0]
        unsorted.forget()
        start = stop
        advance(len(ids))

    order = np.argsort(cluster, kind="stable")
    ends = np.cumsum(np.bincount(cluster, minlength=clusters))
    places = int(sum(-(-size // TILE) * TILE for size in np.diff(ends, prepend=0)))
    laid_out = _Matrix(folder / "vectors.npy", places, d)
    ids_there = np.full(places, NOBODY, dtype=np.uint64)
    about: list[Tiles] = []
    at = 0
    for begin, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        members = order[begin:end]
        some = unsorted.array[members]
        for tile in halved(some) if len(members) else []:
            laid_out.array[at : at + len(tile)] = some[tile]
            ids_there[at : at + len(tile)] = row_ids[members[tile]]
            at += TILE
        advance(len(members))
        unsorted.forget()
        laid_out.forget()
    unsorted.remove()

    block = 2048 * TILE
    eight_bits = _Matrix(folder / f"{_BYTES}.npy", places * (-(-d // 4) * 4), None, np.uint8)
    small: dict[str, list[Any]] = {name: [] for name in _SMALL}
    for start in range(0, places, block):
        some = np.array(laid_out.array[start : start + block])
        about.append(described(some))
        kept = PreparedDocuments(some).tiles
        if kept:
            width = eight_bits.array.size // places
            eight_bits.array[start * width : (start + len(some)) * width] = kept[_BYTES].numpy()
            for name in _SMALL:
                small[name].append(kept[name].numpy())
        laid_out.forget()
        eight_bits.forget()
    for name in _SMALL:
        np.save(folder / f"{name}.npy", np.concatenate(small[name]) if small[name] else np.empty(0, np.float32))
    for name, parts in zip(Tiles._fields, zip(*about, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    np.save(folder / "row_ids.npy", ids_there)
    (folder / _ABOUT).write_text(json.dumps({"version": table.version, "documents": n}))


def _vectors(table: Table) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
    for batch in table.batches(["vector"]):
        flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
        yield batch["_rowid"].to_numpy(), np.ascontiguousarray(flat).reshape(-1, table.dimension)


def _sample(table: Table, n: int, wanted: int, advance: Callable[[int], object]) -> NDArray[np.float32]:
    every = max(1, n // wanted)
    picked, seen = [], 0
    for ids, vectors in _vectors(table):
        picked.append(vectors[-seen % every :: every].copy())
        seen += len(ids)
        advance(len(ids))
    return np.concatenate(picked)


class _Matrix:
    """An array in a file as it is written; what was written need not stay in memory."""

    def __init__(self, path: Path, n: int, d: int | None, dtype: Any = np.float32) -> None:
        self.path = path
        shape = (n,) if d is None else (n, d)
        self.array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    def forget(self) -> None:
        """Let the system take back the memory."""
        self.array.flush()
        if hasattr(mmap, "MADV_DONTNEED"):
            self.array._mmap.madvise(mmap.MADV_DONTNEED)

    def remove(self) -> None:
        """Delete the file."""
        self.array = None
        self.path.unlink()


def _visible(folder: Path) -> bool:
    return not folder.name.startswith(".")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        yield
