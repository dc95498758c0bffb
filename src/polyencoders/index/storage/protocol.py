"""What an index needs of the place it lies in: a few verbs on files, which are named by their path below it."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from polyencoders.errors import IndexingError

TABLE = "documents"  # The name of LanceDB's table; LanceDB keeps it in a folder of that name and `.lance`

Place = str | os.PathLike[str]


class OvertakenError(IndexingError):
    """Another writer's change came first. The same change can be made again."""


class File(NamedTuple):
    """What a storage says about a file."""

    size: int
    modified: float  # Seconds since 1970


class Storage(Protocol):
    """The files of one index."""

    @property
    def place(self) -> Path | str:
        """As users write it."""

    @property
    def local(self) -> Path:
        """A folder of this machine: the index itself or, when `shared`, where copies of its files can be kept."""

    @property
    def shared(self) -> bool:
        """Whether several writers may work at the same time. If not, they take turns by a lock."""

    def engine(self) -> tuple[str, Mapping[str, str] | None]:
        """The address and the options by which LanceDB opens its tables."""

    def files(self, folder: str = "") -> dict[str, File]:
        """All files below a folder, sorted by name."""

    def read(self, name: str) -> bytes:
        """A file's content; FileNotFoundError if it does not exist."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """A file's content in blocks; FileNotFoundError if it does not exist."""

    def write(self, name: str, content: bytes | Path) -> None:
        """Write a file, whole or not at all."""

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
        """Replace a file without losing another writer's change.

        `change` gets the content (None if there is no file) and returns the new one (None to leave it as it is). It may
        be called several times. Returns False if the file was left as it is.
        """

    def remove(self, name: str) -> None:
        """Delete a file if it exists."""

    def lock(self) -> AbstractContextManager[object]:
        """Held while the index is changed."""

    def explained(self, said: str) -> IndexingError | None:
        """The meaning of an error message of LanceDB in this storage; None if it means nothing special here."""
