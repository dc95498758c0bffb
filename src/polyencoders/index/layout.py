"""A layout: vectors in the order of their neighbourhoods, an 8-bit copy of them, and the records of hits.

It is made from one version of the table in a constant amount of memory, and can be made again at any time. In a folder,
it is written under another name and is whole when it has its own. In object storage, it is whole when the list of its
objects and their checksums is there; readers map a copy that this machine keeps.
"""

import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.errors import IndexingError
from polyencoders.files import whole_directory
from polyencoders.index import neighbourhoods
from polyencoders.index.checksums import ABANDONED_AFTER, Checksums, checksum
from polyencoders.index.documents import Records, columns_of
from polyencoders.index.mapped import Written, release
from polyencoders.index.neighbourhoods import Tiles
from polyencoders.index.storage import Storage
from polyencoders.index.storage.folder import Folder
from polyencoders.index.table import LAYOUTS, Table, vectors_in
from polyencoders.index.words import Collected, kept_postings
from polyencoders.scoring import PreparedDocuments
from polyencoders.scoring.selection import TILE

NOBODY = np.uint64(2**64 - 1)  # Stands for a row id where a tile is not full
_ABOUT = "layout.json"

_RECORDS = "records.arrow"
_PREPARED_AT_ONCE = 256 * TILE
_ROWS_IN_MEMORY = 2_000
"""Vectors that searches read before their memory is released: each may bring 64 KB of its neighbours along."""


class Layout:
    """A layout that `build` wrote, its vectors mapped, the rest in memory; of a range of its `tiles` or of all."""

    def __init__(self, folder: Path, tiles: slice | None = None) -> None:
        self.folder = folder
        self.held = tiles  # The tiles it was asked to hold; None: all
        part = tiles if tiles is not None else slice(None)
        rows = slice(part.start * TILE, part.stop * TILE) if tiles is not None else part
        self.version = _about((folder / _ABOUT).read_bytes).version  # The version of the table it was made from
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
        self.postings = kept_postings(folder, rows)  # None in a layout that was made before there were any
        largest = np.abs(self.tiles.centres).max(1, initial=0).astype(np.float64)
        self.centre_lost: NDArray[np.float64] = np.sqrt(self.vectors.shape[1]) * largest / 254
        """By tile: the most by which its centre, of length 1, differs from its 8 bits: half a step a dimension."""

    def read_rows(self, number: int) -> None:
        """Tell that a search has read so many vectors: after some thousands the system takes back their memory."""
        self._rows_read += number
        if self._rows_read > _ROWS_IN_MEMORY:
            self._rows_read = 0
            release(self.vectors)


def build(table: Table, folder: Path, advance: Callable[[int], object]) -> None:
    """Write the layout of one version of the table. `advance` gets numbers of documents, three times for each."""
    n, d = len(table), table.dimension
    clusters = neighbourhoods.clusters_for(n)
    wanted = min(neighbourhoods.MOST_SAMPLED, clusters * neighbourhoods.SAMPLED_FOR_EACH)
    index = neighbourhoods.clustering(_sample(table, n, wanted, advance), clusters)

    # First in the order of the table, to be read again cluster by cluster.
    unsorted = Written(folder / "unsorted.npy", (n, d))
    row_ids, cluster = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.int32)
    start = 0
    words = Collected(folder, table.language)
    columns = columns_of(table.schema)
    kept = pa.schema([table.schema.field(name) for name in columns])
    with pa.OSFile(str(folder / _RECORDS), "wb") as file, pa.ipc.new_file(file, kept) as records:
        for batch in table.batches(["vector", *columns]):
            vectors = vectors_in(batch)
            words.add(batch["text"].to_pylist())
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
    laid_out = Written(folder / "vectors.npy", (places, d))
    ids_there, numbers = np.full(places, NOBODY, dtype=np.uint64), np.full(places, -1, dtype=np.int64)
    tiles: list[Tiles] = []
    at = 0
    for begin, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        members = order[begin:end]
        some = unsorted.array[members]
        for tile in neighbourhoods.halved(some) if len(members) else []:
            laid_out.array[at : at + len(tile)] = some[tile]
            ids_there[at : at + len(tile)] = row_ids[members[tile]]
            numbers[at : at + len(tile)] = members[tile]
            at += TILE
        advance(len(members))
        unsorted.touched(len(members))
        laid_out.touched(len(members))
    unsorted.remove()
    words.write(numbers)

    for start in range(0, places, _PREPARED_AT_ONCE):
        some = np.array(laid_out.array[start : start + _PREPARED_AT_ONCE])
        tiles.append(neighbourhoods.described(some))
        PreparedDocuments(some).keep(folder)
        laid_out.touched(len(some))
    for name, parts in zip(Tiles._fields, zip(*tiles, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    np.save(folder / "row_ids.npy", ids_there)
    np.save(folder / "numbers.npy", numbers)
    (folder / _ABOUT).write_text(json.dumps({"version": table.version, "documents": n}))


def _sample(table: Table, n: int, wanted: int, advance: Callable[[int], object]) -> NDArray[np.float32]:
    """Every so-many-th vector."""
    every = max(1, n // wanted)
    picked, seen = [], 0
    for batch in table.batches(["vector"]):
        picked.append(vectors_in(batch)[-seen % every :: every].copy())
        seen += len(batch)
        advance(len(batch))
    return np.concatenate(picked)


def latest(storage: Storage) -> str | None:
    """The name of the newest layout."""
    return max(_names(storage), key=lambda name: (_about_kept(storage, name).version, name), default=None)


def documents_held(storage: Storage) -> int:
    """How many documents the newest layout holds; 0 without one, or if that cannot be read."""
    name = latest(storage)
    return _about_kept(storage, name).documents if name is not None else 0


class _About(NamedTuple):
    """What a layout was made of."""

    version: int
    documents: int


def _about(read: Callable[[], bytes]) -> _About:
    """What a layout was made of; version -1 with 0 documents if it cannot be read, so that it is made anew."""
    try:
        found = json.loads(read())
        return _About(int(found["version"]), int(found["documents"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _About(-1, 0)


def _about_kept(storage: Storage, name: str) -> _About:
    return _about(lambda: storage.read(f"{LAYOUTS}/{name}/{_ABOUT}"))


def newest(storage: Storage, before: Layout | None = None) -> Layout | None:
    """The newest layout, or `before`, one read earlier, if it is that. IndexingError if it is damaged."""
    name = latest(storage)
    if name is None:
        return None
    if before is not None and before.folder.name == name:
        return before
    try:
        return Layout(local(storage, name))
    except IndexingError:
        raise  # the storage cannot be reached
    except Exception as error:  # the readers of a damaged file raise anything
        # A writer may just have replaced the layout, or this machine's copy may be damaged.
        if latest(storage) != name or _remove_damaged_copy(storage, name):
            return newest(storage, before)
        said = " ".join(str(error).split())
        raise IndexingError(
            f"{LAYOUTS}/{name}: the layout cannot be read ({said}); `polyencoders index compact` makes it anew"
        ) from error


def local(storage: Storage, name: str) -> Path:
    """The folder of a layout on this machine. Downloads it if it lies in object storage and there is no copy."""
    target = storage.local / LAYOUTS / name
    if not storage.shared or target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as folder:
        scratch = Path(folder) / name
        scratch.mkdir()
        for relative, expected in json.loads(storage.read(f"{LAYOUTS}/{name}.json")).items():
            with (scratch / relative).open("wb") as stream:
                stream.writelines(storage.blocks(f"{LAYOUTS}/{name}/{relative}"))
            if checksum(Folder(scratch), relative) != tuple(expected):
                raise ValueError(f"{relative} is damaged: its checksum is not that of what was written")
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # another process was quicker
                raise
    for older in target.parent.iterdir():
        if older.name < target.name and older.name[0] != ".":
            shutil.rmtree(older, ignore_errors=True)  # a process that has it mapped keeps it
    return target


def make(table: Table, advance: Callable[[int], object]) -> None:
    """Make a layout of the latest version and remove earlier ones, in `table.changing()`; `advance` as for `build`."""
    storage = table.storage

    def written(version: Table) -> str:
        name = _next_name(storage, version.version)
        with writing(storage, name, table.checksums) as scratch:
            build(version, scratch, advance)
        return name

    def remove(names: list[str]) -> None:
        for name in names:
            if storage.shared:
                storage.remove(f"{LAYOUTS}/{name}.json")
                for file in storage.files(f"{LAYOUTS}/{name}"):
                    storage.remove(file)
            shutil.rmtree(storage.local / LAYOUTS / name, ignore_errors=True)

    if old := _outdated(storage, table.with_latest(written)):
        table.clean(lambda: remove(old))


@contextmanager
def writing(storage: Storage, name: str, checksums: Checksums) -> Iterator[Path]:
    """Write a layout into the folder given. It is there, whole, when the block ends without an error."""
    with whole_directory(storage.local / LAYOUTS / name) as scratch:
        yield scratch
        if storage.shared:
            here = Folder(scratch)
            listed = {relative: checksum(here, relative) for relative in here.files()}
            for relative in listed:
                storage.write(f"{LAYOUTS}/{name}/{relative}", scratch / relative)
            storage.write(f"{LAYOUTS}/{name}.json", json.dumps(listed).encode())
            checksums.uploaded = {f"{LAYOUTS}/{name}/{relative}": one for relative, one in listed.items()}


def _names(storage: Storage) -> list[str]:
    """Names of the whole layouts."""
    files = [name.removeprefix(f"{LAYOUTS}/") for name in storage.files(LAYOUTS)]
    if storage.shared:
        return [name.removesuffix(".json") for name in files if "/" not in name and name.endswith(".json")]
    return sorted({name.partition("/")[0] for name in files if name[0] != "."})


def _next_name(storage: Storage, version: int) -> str:
    """A name that sorts after the layouts of earlier versions and after earlier ones of the same version."""
    start = f"{version:08d}-"
    made = [re.match(r"(\d{4})-", name.removeprefix(start)) for name in _names(storage) if name.startswith(start)]
    number = max((int(found[1]) + 1 for found in made if found), default=0)
    return f"{start}{number:04d}-{uuid.uuid4().hex[:8]}"


def _outdated(storage: Storage, newest: str) -> list[str]:
    """Names of what can be removed, whole or not, when `newest` is there."""
    if not storage.shared:
        return [path.name for path in (storage.local / LAYOUTS).iterdir() if path.name != newest]
    written: dict[str, float] = {}
    for file, (_, modified) in storage.files(LAYOUTS).items():
        name = file.removeprefix(f"{LAYOUTS}/").partition("/")[0].removesuffix(".json")
        written[name] = max(written.get(name, 0.0), modified)
    whole, abandoned = set(_names(storage)), time.time() - ABANDONED_AFTER  # another writer may be at the others
    return sorted(name for name, when in written.items() if name < newest and (name in whole or when < abandoned))


def _remove_damaged_copy(storage: Storage, name: str) -> bool:
    """Remove this machine's copy if it differs from what was written. Returns whether it did."""
    copy = storage.local / LAYOUTS / name
    if not storage.shared or not copy.is_dir():
        return False
    try:
        listed = json.loads(storage.read(f"{LAYOUTS}/{name}.json"))
        if all(checksum(Folder(copy), relative) == tuple(expected) for relative, expected in listed.items()):
            return False  # the object storage holds what is wrong
    except FileNotFoundError:
        pass
    shutil.rmtree(copy, ignore_errors=True)
    return True
