"""Which layouts an index has, and what makes one whole.

In a folder, a layout is written under another name and is whole when it has its own. In object storage, it is whole
when the list of its objects and their checksums is there; readers map a copy that this machine keeps.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polyencoders.errors import IndexingError
from polyencoders.files import whole_directory
from polyencoders.index.checksums import ABANDONED_AFTER, Checksums, checksum
from polyencoders.index.layout import ABOUT, About, Layout, about, build
from polyencoders.index.storage import Storage
from polyencoders.index.storage.folder import Folder
from polyencoders.index.table import LAYOUTS, Table


def latest(storage: Storage) -> str | None:
    """The name of the newest layout."""
    return max(_names(storage), key=lambda name: (_about(storage, name).version, name), default=None)


def documents_held(storage: Storage) -> int:
    """How many documents the newest layout holds; 0 without one, or if that cannot be read."""
    name = latest(storage)
    return _about(storage, name).documents if name is not None else 0


def _about(storage: Storage, name: str) -> About:
    return about(lambda: storage.read(f"{LAYOUTS}/{name}/{ABOUT}"))


def newest(storage: Storage, before: Layout | None = None) -> Layout | None:
    """The newest layout; IndexingError if it is damaged.

    `before` is a layout read earlier. It is returned as it is when it is still the newest.
    """
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


def make(table: Table, advance: Callable[[int], object] = lambda documents: None) -> None:
    """Make a layout of the latest version, and remove the earlier ones. To be called in `table.changing()`.

    `advance` is called with numbers of documents, three times for each.
    """
    storage = table.storage

    def written(version: Table) -> str:
        name = _next_name(storage, version.version)
        with writing(storage, name, table.checksums) as scratch:
            build(version, scratch, advance)
        return name

    name = table.with_latest(written)
    if old := _outdated(storage, name):
        table.clean(lambda: _remove(storage, old))


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
            checksums.uploaded({f"{LAYOUTS}/{name}/{relative}": one for relative, one in listed.items()})


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


def _remove(storage: Storage, names: list[str]) -> None:
    for name in names:
        if storage.shared:
            storage.remove(f"{LAYOUTS}/{name}.json")
            for file in storage.files(f"{LAYOUTS}/{name}"):
                storage.remove(file)
        shutil.rmtree(storage.local / LAYOUTS / name, ignore_errors=True)


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
