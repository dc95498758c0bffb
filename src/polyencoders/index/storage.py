"""Where an index lies: a folder of this machine, or a bucket (`bucket.py`), behind the same few verbs.

An index is files that are written once and never changed, two small ones that are replaced, and folders that are
whole or not there. Knows names and bytes; nothing of what is in them.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from polyencoders.errors import IndexingError
from polyencoders.files import whole_directory, whole_file

TABLE = "documents"
"""The engine's name of the table; it keeps it in a folder of that name and `.lance`."""

ABANDONED_AFTER = 24 * 3600
"""Seconds after which whoever began something on shared storage, and did not end it, must have been killed."""

_BLOCK = 1 << 20
_LOCK = ".lock"

Place = str | os.PathLike[str]


class Storage(ABC):
    """The files of one index, by their names below it."""

    place: Path | str
    """As people write it."""
    shared: bool
    """Whether writers may be at work at the same time; otherwise they take turns by a lock."""
    uploaded: Mapping[str, tuple[int, str]] = {}
    """Sizes and checksums of files that went elsewhere from this machine: they need not be read back to be known."""

    @abstractmethod
    def engine(self) -> tuple[str, dict[str, str] | None]:
        """Where LanceDB finds its tables, and the options by which it does."""

    @abstractmethod
    def files(self, folder: str = "") -> dict[str, int]:
        """Sizes by name of all files below a folder, sorted by name."""

    @abstractmethod
    def blocks(self, name: str) -> Iterator[bytes]:
        """A file, some of it at a time; FileNotFoundError if there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""

    @abstractmethod
    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what `change` makes of it (of None, if there is none), losing nobody's change."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, if there is one."""

    @abstractmethod
    def settle(self, names: Sequence[str]) -> None:
        """Have files that others wrote be there for good."""

    @abstractmethod
    def turn(self) -> AbstractContextManager[object]:
        """Held while the index is changed."""

    @abstractmethod
    def folders(self, parent: str) -> list[str]:
        """Names of the whole folders in a folder."""

    @abstractmethod
    def outdated(self, parent: str, newest: str) -> list[str]:
        """Names of what else is in a folder, whole or not, and can go when `newest` is there: newer ones sort later."""

    @abstractmethod
    def new_folder(self, name: str) -> AbstractContextManager[Path]:
        """Write a folder of files at the path given; it is there, whole, when the block ends without an error."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """A whole folder, as files of this machine."""

    @abstractmethod
    def fetch_again(self, name: str) -> bool:
        """Whether a folder's files on this machine were an old copy, which is thrown away now."""

    @abstractmethod
    def remove_folder(self, name: str) -> None:
        """Delete a folder."""

    @abstractmethod
    def explained(self, said: str) -> IndexingError | None:
        """What an error of the engine means in this kind of storage; None: nothing that only it could say."""

    def read(self, name: str) -> bytes:
        """A file's contents; FileNotFoundError if there is none."""
        return b"".join(self.blocks(name))


class Folder(Storage):
    """An index in a folder of this machine."""

    shared = False

    def __init__(self, place: Path) -> None:
        self.place: Path = place

    def engine(self) -> tuple[str, None]:
        return str(self.place), None

    def files(self, folder: str = "") -> dict[str, int]:
        found = {}
        for path in sorted((self.place / folder).rglob("*")):
            with suppress(FileNotFoundError):  # what another process was writing, renamed since it was listed
                if path.is_file():
                    found[path.relative_to(self.place).as_posix()] = path.stat().st_size
        return found

    def blocks(self, name: str) -> Iterator[bytes]:
        with (self.place / name).open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block

    def write(self, name: str, content: bytes) -> None:
        path = self.place / name
        with whole_file(path) as scratch:
            scratch.write_bytes(content)
        _sync(path.parent)

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        path = self.place / name
        self.write(name, change(path.read_bytes() if path.exists() else None))

    def remove(self, name: str) -> None:
        (self.place / name).unlink(missing_ok=True)

    def settle(self, names: Sequence[str]) -> None:
        paths = [self.place / name for name in names]
        for path in [*paths, *{path.parent for path in paths}]:
            _sync(path)

    @contextmanager
    def turn(self) -> Iterator[None]:
        from filelock import FileLock

        with FileLock(self.place / _LOCK):  # a writer that is killed lets go of it
            yield

    def folders(self, parent: str) -> list[str]:
        return [path.name for path in (self.place / parent).glob("*") if path.is_dir() and path.name[0] != "."]

    def outdated(self, parent: str, newest: str) -> list[str]:
        return [path.name for path in (self.place / parent).iterdir() if path.name != newest]

    def new_folder(self, name: str) -> AbstractContextManager[Path]:
        return whole_directory(self.place / name)

    def local(self, name: str) -> Path:
        return self.place / name

    def fetch_again(self, name: str) -> bool:
        return False

    def remove_folder(self, name: str) -> None:
        shutil.rmtree(self.place / name, ignore_errors=True)

    def explained(self, said: str) -> IndexingError | None:
        if "no space left" in said.lower():
            return IndexingError(
                f"{self.place}: the disk is full ({said}). What was written before is there; when there is room, the "
                "same call goes on"
            )
        return None


def place_of(place: Place) -> Path | str:
    """A path, or an address in object storage as it is.

    Raises
    ------
    IndexingError
        An address of another kind.

    >>> place_of("s3://bucket/answers/"), place_of("answers")
    ('s3://bucket/answers', PosixPath('answers'))
    """
    if not isinstance(place, str) or "://" not in place:
        return Path(place)
    if not place.startswith("s3://") or not place.removeprefix("s3://").strip("/"):
        raise IndexingError(f"{place}: an index is in a folder, or in object storage at s3://bucket/name")
    return place.rstrip("/")


def existing(place: Place, options: Mapping[str, str] | None = None) -> Storage:
    """An index that is there.

    Raises
    ------
    IndexingError
        There is none.
    """
    where = place_of(place)
    if isinstance(where, str):
        from polyencoders.index.bucket import Bucket

        return Bucket.existing(where, options)
    if not where.is_dir():
        raise IndexingError(f"{where}: no such index; `polyencoders index create` makes one")
    if not (where / f"{TABLE}.lance").is_dir():
        raise IndexingError(f"{where} is a directory without an index: it has no {TABLE}.lance")
    return Folder(where)


def new(place: Place, options: Mapping[str, str] | None = None) -> AbstractContextManager[Storage]:
    """Where a new index is written: it is in its place when the block ends without an error.

    Raises
    ------
    IndexingError
        There is something in its place.
    """
    where = place_of(place)
    if isinstance(where, str):
        from polyencoders.index.bucket import Bucket

        return Bucket.new(where, options)
    return _new_folder(where)


def is_index(place: Place, options: Mapping[str, str] | None = None) -> bool:
    """Whether there is an index."""
    where = place_of(place)
    if isinstance(where, str):
        from polyencoders.index.bucket import Bucket

        return Bucket.is_index(where, options)
    return (where / f"{TABLE}.lance").is_dir()


@contextmanager
def _new_folder(path: Path) -> Iterator[Storage]:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        there = "an index; Index.open opens it" if (path / f"{TABLE}.lance").is_dir() else "not empty"
        raise IndexingError(f"{path} is {there}; a new index wants a folder of its own")
    with whole_directory(path) as scratch:
        yield Folder(scratch)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
