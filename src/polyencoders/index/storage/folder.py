"""An index in a folder of this machine."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from polyencoders.errors import IndexingError
from polyencoders.files import sync, whole_directory, whole_file
from polyencoders.index.storage.protocol import TABLE, File

_BLOCK = 1 << 20


class Folder:
    """See `Storage`. Writers take turns by a lock."""

    shared = False

    def __init__(self, place: Path) -> None:
        self.place: Path = place
        self.local = place

    @classmethod
    def existing(cls, place: Path) -> "Folder":
        if not place.is_dir():
            raise IndexingError(f"{place}: no such index; `polyencoders index create` makes one")
        if not cls.is_index(place):
            raise IndexingError(f"{place} is a directory without an index: it has no {TABLE}.lance")
        return cls(place)

    @classmethod
    @contextmanager
    def new(cls, place: Path) -> "Iterator[Folder]":
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            there = "an index; Index.open opens it" if cls.is_index(place) else "not empty"
            raise IndexingError(f"{place} is {there}; a new index wants a folder of its own")
        with whole_directory(place) as scratch:
            yield cls(scratch)

    @staticmethod
    def is_index(place: Path) -> bool:
        return (place / f"{TABLE}.lance").is_dir()

    def engine(self) -> tuple[str, None]:
        return str(self.place), None

    def files(self, folder: str = "") -> dict[str, File]:
        found = {}
        for path in sorted((self.place / folder).rglob("*")):
            with suppress(FileNotFoundError):  # another process has just renamed a file that it was writing
                if path.is_file():
                    status = path.stat()
                    found[path.relative_to(self.place).as_posix()] = File(status.st_size, status.st_mtime)
        return found

    def read(self, name: str) -> bytes:
        return (self.place / name).read_bytes()

    def blocks(self, name: str) -> Iterator[bytes]:
        with (self.place / name).open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block

    def write(self, name: str, content: bytes | Path) -> None:
        path = self.place / name
        with whole_file(path) as scratch:
            if isinstance(content, bytes):
                scratch.write_bytes(content)
            else:
                shutil.copyfile(content, scratch)
        sync(path.parent)

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        path = self.place / name
        if (content := change(path.read_bytes() if path.exists() else None)) is None:
            return False
        self.write(name, content)
        return True

    def remove(self, name: str) -> None:
        (self.place / name).unlink(missing_ok=True)

    def lock(self) -> AbstractContextManager[object]:
        from filelock import FileLock

        return FileLock(self.place / ".lock")  # the system releases it when a writer is killed

    def explained(self, said: str) -> IndexingError | None:
        if "no space left" in said.lower():
            return IndexingError(
                f"{self.place}: the disk is full ({said}). What was written before is there; when there is room, the "
                "same call goes on"
            )
        return None
