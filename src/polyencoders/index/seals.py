"""Checksums of every file of an index, so that a flipped byte anywhere is found, and named.

A file of an index is written once and never changed. After each change the writer, which holds the index's lock, takes
the checksum of every file that has none yet. Knows files; nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from polyencoders.files import whole_file

FOLDER = "seals"
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
        for file in self._lists():
            try:
                entries = json.loads(file.read_bytes())
                known.update({name: (int(size), str(checksum)) for name, (size, checksum) in entries.items()})
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{file.relative_to(self.root)}: the list of checksums is damaged ({error})") from None
        return known

    def seal(self) -> None:
        """Take the checksums of files that have none, and have the system write those files to the disk for good."""
        known = self.known()
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
        old = self._lists()
        merged = {**known, **fresh} if len(old) >= _MERGED_FROM else fresh
        with whole_file(self.folder / f"{uuid.uuid4().hex}.json") as file:
            file.write_text(json.dumps(merged))
        _sync(self.folder)
        if merged is not fresh:
            for file in old:
                file.unlink()

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
        forgiving = (self.folder / _CLEANING).exists()  # a compaction was interrupted: it removes old files
        for name, (size, expected) in sorted(known.items()):
            path = self.root / name
            if not path.exists():
                if not forgiving:
                    yield f"{name}: the file is missing"
                continue
            actual = path.stat().st_size
            if actual != size:
                how = "cut short" if actual < size else "too long"
                yield f"{name}: the file is {how}: {actual:,} bytes, and {size:,} were written"
            elif checksum(path, advance) != expected:
                yield f"{name}: the file is damaged: its checksum is not that of what was written"

    def unsealed(self) -> list[str]:
        """Files that have no checksum yet: of a change whose writer was killed."""
        known = self.known()
        return [name for name in self._files() if name not in known]

    def total(self) -> int:
        """Bytes that `check` reads."""
        return sum(size for size, _ in self.known().values())

    def _forget_missing(self) -> None:
        old = self._lists()
        there = {name: seal for name, seal in self.known().items() if (self.root / name).exists()}
        with whole_file(self.folder / f"{uuid.uuid4().hex}.json") as file:
            file.write_text(json.dumps(there))
        for file in old:
            file.unlink()
        (self.folder / _CLEANING).unlink(missing_ok=True)

    def _lists(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _files(self) -> Iterator[str]:
        for name in self.covered:
            for path in sorted((self.root / name).rglob("*")):
                if path.is_file() and path.name != _CHANGING:
                    yield path.relative_to(self.root).as_posix()


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
