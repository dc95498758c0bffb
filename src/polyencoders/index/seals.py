"""Checksums of every file of an index, so that a flipped byte anywhere is found, and named.

A file of an index is written once and never changed. After each change the writer, which holds the index's lock, takes
the checksum of every file that has none yet. They are kept in lists, each named by its own checksum; which lists there
are is told by a file that is there from the beginning, so that a list cannot be missing unnoticed. Knows files; nothing
of what is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from polyencoders.files import whole_file

FOLDER = "seals"
_LISTS = "lists"
_CLEANING = "cleaning"
_CHANGING = "latest_version_hint.json"  # LanceDB's, overwritten with every version and not relied upon
_MERGED_FROM = 64
"""Lists of seals are merged into one when there are so many."""


class Seals:
    """The checksums of the files below a folder.

    Parameters
    ----------
    root
        The index.
    covered
        Names of the folders in it whose files are sealed.
    """

    def __init__(self, root: Path, covered: tuple[str, ...]) -> None:
        self.root = root
        self.covered = covered
        self.folder = root / FOLDER

    def known(self) -> dict[str, tuple[int, str]]:
        """Size and checksum by path, as sealed.

        Raises
        ------
        ValueError
            A list of seals is damaged.
        """
        known: dict[str, tuple[int, str]] = {}
        names = self._lists()
        for name in names:
            file = self.folder / f"{name}.json"
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                if self._lists() != names:
                    return self.known()  # a writer has just joined the lists
                raise ValueError(f"{FOLDER}/{file.name}: the list of checksums is missing") from None
            if _digest(content) != name:
                raise ValueError(f"{FOLDER}/{file.name}: the list of checksums is damaged")
            known.update({path: (size, checksum) for path, (size, checksum) in json.loads(content).items()})
        return known

    def seal(self, first: bool = False) -> None:
        """Take the checksums of files that have none, and have the system write those files to the disk for good.

        Parameters
        ----------
        first
            There are no seals yet.
        """
        if (self.folder / _CLEANING).exists():
            self._forget_missing()  # a compaction was interrupted
        known = {} if first else self.known()
        fresh = {}
        folders = set()
        for name in self._files():
            if name in known:
                continue
            path = self.root / name
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            fresh[name] = (path.stat().st_size, checksum(path))
            folders.add(path.parent)
        for folder in folders:
            _sync(folder)
        if not fresh:
            return
        before = [] if first else self._lists()
        if len(before) < _MERGED_FROM:
            self._write(fresh, before)
        else:
            self._write({**known, **fresh}, [])

    def clean(self, remove: Callable[[], object]) -> None:
        """Run what removes files, then forget their seals."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _CLEANING).touch()
        remove()
        self._forget_missing()

    def check(self, advance: Callable[[int], object] = lambda read: None) -> Iterator[str]:
        """What is wrong with sealed files, in a sentence each.

        Parameters
        ----------
        advance
            Called with the number of bytes read.
        """
        try:
            known = self.known()
        except ValueError as error:
            yield str(error)
            return
        for name, (size, expected) in sorted(known.items()):
            path = self.root / name
            if not path.exists():
                # It may be a compaction that removed it, under way or interrupted, or done since the lists were read.
                if not (self.folder / _CLEANING).exists() and name in self.known():
                    yield f"{name}: the file is missing"
                continue
            actual = path.stat().st_size
            if actual != size:
                how = "cut short" if actual < size else "too long"
                yield f"{name}: the file is {how}: {actual:,} bytes, and {size:,} were written"
            elif checksum(path, advance) != expected:
                yield f"{name}: the file is damaged: its checksum is not that of what was written"

    def _forget_missing(self) -> None:
        self._write({name: seal for name, seal in self.known().items() if (self.root / name).exists()}, [])
        (self.folder / _CLEANING).unlink(missing_ok=True)

    def _write(self, seals: dict[str, tuple[int, str]], beside: list[str]) -> None:
        """A list of seals that is valid together with others, and no more than these."""
        content = json.dumps(seals).encode()
        names = [*beside, _digest(content)]
        with whole_file(self.folder / f"{names[-1]}.json") as file:
            file.write_bytes(content)
        listed = "\n".join(names).encode()
        with whole_file(self.folder / _LISTS) as file:
            file.write_bytes(_digest(listed).encode() + b"\n" + listed)
        _sync(self.folder)
        if not beside:
            for old in self.folder.iterdir():  # with what killed writers left
                if old.name not in (_LISTS, _CLEANING, f"{names[-1]}.json"):
                    old.unlink()

    def _lists(self) -> list[str]:
        """Names of the lists that are valid."""
        try:
            checksum, _, listed = (self.folder / _LISTS).read_bytes().partition(b"\n")
        except FileNotFoundError:
            raise ValueError(f"{FOLDER}/{_LISTS}: the file is missing") from None
        if _digest(listed).encode() != checksum:
            raise ValueError(f"{FOLDER}/{_LISTS}: the file is damaged")
        return listed.decode().split("\n")

    def _files(self) -> Iterator[str]:
        for name in self.covered:
            for path in sorted((self.root / name).rglob("*")):
                if path.is_file() and path.name != _CHANGING:
                    yield path.relative_to(self.root).as_posix()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def checksum(path: Path, advance: Callable[[int], object] = lambda read: None) -> str:
    """Of a file's contents, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
