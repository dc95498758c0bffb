"""Checksums of every file of an index, so that a flipped byte anywhere is found, and named.

A file of an index is written once and never changed. After each change the writer takes the checksum of every file
that has none yet. They are kept in lists, each named by its own checksum and something of its own; which lists there
are is told by a file that is there from the beginning, so that a list cannot be missing unnoticed. Where writers work
at the same time, that file is the one thing they all change: each adds its list to those that are there. Knows files;
nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from polyencoders.index.storage import ABANDONED_AFTER, Storage

FOLDER = "seals"
_LISTS = f"{FOLDER}/lists"
_CLEANING = f"{FOLDER}/cleaning"
_CHANGING = "latest_version_hint.json"  # LanceDB's, overwritten with every version and not relied upon
_MERGED_FROM = 64
"""Lists of seals are merged into one when there are so many."""

Seal = tuple[int, str]


class Seals:
    """The checksums of the files of an index.

    Parameters
    ----------
    storage
        The index.
    covered
        Names of the folders in it whose files are sealed.
    """

    def __init__(self, storage: Storage, covered: tuple[str, ...]) -> None:
        self.storage = storage
        self.covered = covered

    def known(self) -> dict[str, Seal]:
        """Size and checksum by path, as sealed.

        Raises
        ------
        ValueError
            A list of seals is damaged.
        """
        return self._known()[0]

    def seal(self, first: bool = False) -> None:
        """Take the checksums of files that have none, once those files are written for good.

        Parameters
        ----------
        first
            There are no seals yet.
        """
        if self._cleaning():
            self._forget_missing()  # a compaction was interrupted, or another writer's is under way
        known, lists = ({}, []) if first else self._known()
        fresh = [name for name in self._files() if name not in known]
        self.storage.settle(fresh)
        seals = {}
        for name in fresh:
            try:
                seals[name] = self.storage.uploaded.get(name) or checksum(self.storage, name)
            except FileNotFoundError:
                continue  # another writer's compaction has just removed it
        if not seals:
            return
        if len(lists) < _MERGED_FROM:
            self._write(seals)
        elif not self._write({**known, **seals}, lists):
            self._write(seals)  # another writer has just joined them
        if self.storage.shared and seals.keys() - set(self._files()):
            self._forget_missing()  # removed while their checksums were taken

    def clean(self, remove: Callable[[], object]) -> None:
        """Run what removes files, then forget their seals."""
        mark = f"{_CLEANING}-{int(time.time())}-{uuid.uuid4().hex[:8]}" if self.storage.shared else _CLEANING
        self.storage.write(mark, b"")
        remove()
        self._forget_missing()
        self.storage.remove(mark)

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
        there = {name: size for folder in self.covered for name, size in self.storage.files(folder).items()}
        for name, (size, expected) in sorted(known.items()):
            try:
                if name not in there:
                    raise FileNotFoundError
                if there[name] != size:
                    how = "cut short" if there[name] < size else "too long"
                    yield f"{name}: the file is {how}: {there[name]:,} bytes, and {size:,} were written"
                elif checksum(self.storage, name, advance)[1] != expected:
                    yield f"{name}: the file is damaged: its checksum is not that of what was written"
            except FileNotFoundError:
                # It may be a compaction that removed it, under way or interrupted, or done since the lists were read.
                if not self._cleaning() and name in self.known():
                    yield f"{name}: the file is missing"

    def _known(self) -> tuple[dict[str, Seal], list[str]]:
        """The seals, and the names of the lists they are in."""
        known: dict[str, Seal] = {}
        lists = self._lists()
        for name in lists:
            file = f"{FOLDER}/{name}.json"
            try:
                content = self.storage.read(file)
            except FileNotFoundError:
                if self._lists() != lists:
                    return self._known()  # a writer has just joined the lists
                raise ValueError(f"{file}: the list of checksums is missing") from None
            if _digest(content) != name.partition("-")[0]:
                raise ValueError(f"{file}: the list of checksums is damaged")
            known.update({path: (size, checksum) for path, (size, checksum) in json.loads(content).items()})
        return known, lists

    def _cleaning(self) -> list[str]:
        """The marks of those who are removing files, or were when they were killed."""
        return [name for name in self.storage.files(FOLDER) if name.startswith(_CLEANING)]

    def _forget_missing(self) -> None:
        marks = self._cleaning()
        while True:
            known, lists = self._known()
            there = set(self._files())
            if self._write({name: seal for name, seal in known.items() if name in there}, lists):
                break  # else another writer has joined the lists, and might have kept what is forgotten here
        for mark in marks:
            if not self.storage.shared or int(mark.split("-")[1]) < time.time() - ABANDONED_AFTER:
                self.storage.remove(mark)

    def _write(self, seals: dict[str, Seal], joined: Sequence[str] = ()) -> bool:
        """A list of seals, in place of those that are joined in it, and beside all others.

        False, and nothing is changed: those to be joined are not the valid ones any more.
        """
        content = json.dumps(seals).encode()
        # Two writers may seal the same files: whoever joins the list of one must not remove that of the other.
        name = f"{_digest(content)}-{uuid.uuid4().hex[:8]}"
        self.storage.write(f"{FOLDER}/{name}.json", content)

        def change(before: bytes | None) -> bytes:
            lists = _names(before) if before is not None else []
            if before is not None and name in lists:
                return before  # it is done, and the answer was lost
            if not set(joined) <= set(lists):
                raise _OvertakenError
            listed = "\n".join([*(other for other in lists if other not in joined), name]).encode()
            return _digest(listed).encode() + b"\n" + listed

        try:
            self.storage.update(_LISTS, change)
        except _OvertakenError:
            self.storage.remove(f"{FOLDER}/{name}.json")
            return False
        if joined:
            old = {f"{FOLDER}/{other}.json" for other in joined}
            if not self.storage.shared:  # with what killed writers left
                old = {file for file in self.storage.files(FOLDER) if not file.startswith((_LISTS, _CLEANING))}
                old -= {f"{FOLDER}/{name}.json"}
            for file in old:
                self.storage.remove(file)
        return True

    def _lists(self) -> list[str]:
        """Names of the lists that are valid."""
        try:
            return _names(self.storage.read(_LISTS))
        except FileNotFoundError:
            raise ValueError(f"{_LISTS}: the file is missing") from None

    def _files(self) -> Iterator[str]:
        for folder in self.covered:
            yield from (name for name in self.storage.files(folder) if not name.endswith(f"/{_CHANGING}"))


class _OvertakenError(Exception):
    """Another writer has joined the lists that were to be joined."""


def _names(register: bytes) -> list[str]:
    checksum, _, listed = register.partition(b"\n")
    if _digest(listed).encode() != checksum:
        raise ValueError(f"{_LISTS}: the file is damaged")
    return listed.decode().split("\n")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def checksum(storage: Storage, name: str, advance: Callable[[int], object] = lambda read: None) -> Seal:
    """Of a file: its size, and 32 hexadecimal digits of its contents."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for block in storage.blocks(name):
        digest.update(block)
        size += len(block)
        advance(len(block))
    return size, digest.hexdigest()
