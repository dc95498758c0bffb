"""Checksums of every file of an index, so that a flipped byte anywhere is found and named.

A file of an index is written once and never changed. After each change the writer takes the checksums of the new files.
They are kept in lists, whose names contain their own checksums. A register names the lists, so that a missing list is
noticed. In object storage the register is the one file that all writers change.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

from polyencoders.files import sync
from polyencoders.index.storage import Storage

FOLDER = "seals"
ABANDONED_AFTER = 24 * 3600
"""Seconds after which a writer that began something in object storage and did not end it must have been killed."""
_LISTS = f"{FOLDER}/lists"
_CLEANING = f"{FOLDER}/cleaning"
_CHANGING = "latest_version_hint.json"  # LanceDB overwrites it with every version, and does not rely on it
_MERGED_FROM = 64  # So many lists are merged into one

Checksum = tuple[int, str]  # The size of a file and 32 hexadecimal digits


class Checksums:
    """The checksums of the files of an index, in the folders of it that are `covered`."""

    def __init__(self, storage: Storage, covered: tuple[str, ...]) -> None:
        self.storage = storage
        self.covered = covered
        self.uploaded: dict[str, Checksum] = {}  # Of files that this process has just uploaded: they are not read back

    def take(self, first: bool = False) -> None:
        """Take the checksums of files that have none, once the files are on the disk; `first`: there are no lists."""
        if self._cleaning():
            self._forget_missing()  # a compaction was interrupted, or another writer's is under way
        known, lists = ({}, []) if first else self.known()
        fresh = [name for name in self._files() if name not in known]
        if not self.storage.shared:  # an object is there for good when its put is answered
            paths = [self.storage.local / name for name in fresh]
            for path in [*paths, *{path.parent for path in paths}]:
                sync(path)
        taken = {}
        for name in fresh:
            try:
                taken[name] = self.uploaded.get(name) or checksum(self.storage, name)
            except FileNotFoundError:
                continue  # another writer's compaction has just removed it
        if not taken:
            return
        if len(lists) < _MERGED_FROM:
            self._write(taken)
        elif not self._write({**known, **taken}, lists):
            self._write(taken)  # another writer has just merged them
        if self.storage.shared and taken.keys() - set(self._files()):
            self._forget_missing()  # files were removed while their checksums were taken

    def clean(self, remove: Callable[[], object]) -> None:
        """Run what removes files, then forget their checksums."""
        mark = f"{_CLEANING}-{int(time.time())}-{uuid.uuid4().hex[:8]}" if self.storage.shared else _CLEANING
        self.storage.write(mark, b"")
        remove()
        self._forget_missing()
        self.storage.remove(mark)

    def check(self, advance: Callable[[int], object] = lambda read: None) -> Iterator[str]:
        """One sentence for each problem. `advance` is called with numbers of bytes read."""
        try:
            known, _ = self.known()
        except ValueError as error:
            yield str(error)
            return
        there = {name: file.size for folder in self.covered for name, file in self.storage.files(folder).items()}
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
                # A compaction may have removed it: one under way, an interrupted one, or one since the lists were read.
                if not self._cleaning() and name in self.known()[0]:
                    yield f"{name}: the file is missing"

    def known(self) -> tuple[dict[str, Checksum], list[str]]:
        """The checksums by name, and the names of the lists they are in; ValueError if a list is damaged."""
        known: dict[str, Checksum] = {}
        lists = self._lists()
        for name in lists:
            file = f"{FOLDER}/{name}.json"
            try:
                content = self.storage.read(file)
            except FileNotFoundError:
                if self._lists() != lists:
                    return self.known()  # a writer has just merged the lists
                raise ValueError(f"{file}: the list of checksums is missing") from None
            if _digest(content) != name.partition("-")[0]:
                raise ValueError(f"{file}: the list of checksums is damaged")
            known.update({path: (size, digest) for path, (size, digest) in json.loads(content).items()})
        return known, lists

    def _cleaning(self) -> list[str]:
        """The marks of writers that are removing files, or were when they were killed."""
        return [name for name in self.storage.files(FOLDER) if name.startswith(_CLEANING)]

    def _forget_missing(self) -> None:
        marks = self._cleaning()
        while True:
            known, lists = self.known()
            there = set(self._files())
            if self._write({name: one for name, one in known.items() if name in there}, lists):
                break  # else another writer has merged the lists, and may have kept what is forgotten here
        for mark in marks:
            if not self.storage.shared or int(mark.split("-")[1]) < time.time() - ABANDONED_AFTER:
                self.storage.remove(mark)

    def _write(self, checksums: dict[str, Checksum], merged: Sequence[str] = ()) -> bool:
        """Write a list in place of those merged in it; False, and no change, if one of these is not valid any more."""
        content = json.dumps(checksums).encode()
        # Two writers may list the same files: merging the list of one must not remove that of the other.
        name = f"{_digest(content)}-{uuid.uuid4().hex[:8]}"
        self.storage.write(f"{FOLDER}/{name}.json", content)

        def change(before: bytes | None) -> bytes | None:
            lists = _names(before) if before is not None else []
            if before is not None and name in lists:
                return before  # it was done, and the answer was lost
            if not set(merged) <= set(lists):
                return None
            listed = "\n".join([*(other for other in lists if other not in merged), name]).encode()
            return _digest(listed).encode() + b"\n" + listed

        if not self.storage.update(_LISTS, change):
            self.storage.remove(f"{FOLDER}/{name}.json")
            return False
        if merged:
            old = {f"{FOLDER}/{other}.json" for other in merged}
            if not self.storage.shared:  # as well as what killed writers left
                old = {file for file in self.storage.files(FOLDER) if not file.startswith((_LISTS, _CLEANING))}
                old -= {f"{FOLDER}/{name}.json"}
            for file in old:
                self.storage.remove(file)
        return True

    def _lists(self) -> list[str]:
        """Names of the valid lists."""
        try:
            return _names(self.storage.read(_LISTS))
        except FileNotFoundError:
            raise ValueError(f"{_LISTS}: the file is missing") from None

    def _files(self) -> list[str]:
        files = (name for folder in self.covered for name in self.storage.files(folder))
        return [name for name in files if not name.endswith(f"/{_CHANGING}")]


def checksum(storage: Storage, name: str, advance: Callable[[int], object] = lambda read: None) -> Checksum:
    """The checksum of a file. `advance` is called with numbers of bytes read."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for block in storage.blocks(name):
        digest.update(block)
        size += len(block)
        advance(len(block))
    return size, digest.hexdigest()


def _names(register: bytes) -> list[str]:
    digest, _, listed = register.partition(b"\n")
    if _digest(listed).encode() != digest:
        raise ValueError(f"{_LISTS}: the file is damaged")
    return listed.decode().split("\n")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
