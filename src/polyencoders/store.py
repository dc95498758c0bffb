"""Arrays kept on disk by content: what was computed once is not computed again.

A key is a hash of what was read (texts) and of the fingerprint of what computed the array, so that other weights,
settings or texts never meet an old array.
"""

import hashlib
import logging
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyencoders.files import cache_folder

logger = logging.getLogger(__name__)

_KEYS_AT_ONCE = 500  # SQLite takes a few thousand values in one question


class Store:
    """Arrays of any shape and type in one SQLite file.

    Each `put` is one transaction, so a killed process leaves all of its arrays or none. Threads and processes may share
    a file. Every array has a checksum. A damaged array or file is as good as a missing one, and what cannot be written
    is not kept: a warning is logged, and the caller computes again.

    A `path` whose folder has to exist is the file; with None nothing is kept. The hexadecimal `fingerprint` says what
    computes the arrays, and goes into every key: one file may hold the arrays of several. The `journal` `delete` also
    works on network file systems, `wal` writes faster, for processes of one machine. `error` is why the file cannot be
    used at all, or None; the store is then empty and keeps nothing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(Path(folder) / "arrays.sqlite", "00ff")
    ...     store.put({store.key("tea"): np.ones((3, 2), np.float16)})
    ...     store.get([store.key("tea"), store.key("rain")])[store.key("tea")].shape
    (3, 2)
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, fingerprint: str, journal: Literal["delete", "wal"] = "delete"
    ) -> None:
        self.path = path
        self.error: sqlite3.Error | None = None
        self._seed = bytes.fromhex(fingerprint)
        self._lock = threading.Lock()
        self._base: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            base = sqlite3.connect(path, timeout=30, check_same_thread=False)
            base.execute(f"PRAGMA journal_mode = {journal}")
            base.execute("PRAGMA synchronous = NORMAL")
            columns = "key BLOB PRIMARY KEY, type TEXT, shape TEXT, content BLOB, checksum INTEGER"
            base.execute(f"CREATE TABLE IF NOT EXISTS arrays ({columns})")
            base.commit()
            self._base = base
        except sqlite3.Error as error:
            self.error = error

    def key(self, *texts: str) -> bytes:
        """Returns the key of an array that is made from these texts, in this order (16 bytes)."""
        digest = hashlib.blake2b(digest_size=16, key=self._seed)
        for text in texts:
            # Lone surrogates are legal here: the tokeniser is the one to say what is wrong with them.
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "big"))
            digest.update(content)
        return digest.digest()

    def has(self, keys: Iterable[bytes]) -> set[bytes]:
        """Returns those of the keys that have an array; whether it is damaged, only `get` finds out."""
        return {key for (key,) in self._select("key", keys)}

    def get(self, keys: Iterable[bytes]) -> dict[bytes, NDArray[Any]]:
        """Returns the arrays that are there, by key; they are read-only."""
        found = {}
        for key, *row in self._select("key, type, shape, content, checksum", keys):
            array = _read(key, *row)
            if array is None:
                logger.warning("%s: an array is damaged and will be computed again", self.path)
            else:
                found[key] = array
        return found

    def put(self, arrays: Mapping[bytes, NDArray[Any]]) -> None:
        """Keeps arrays, all of them or none; they replace those of the same keys."""
        if self._base is None:
            return
        rows = []
        for key, array in arrays.items():
            kind, shape, content = array.dtype.str, " ".join(map(str, array.shape)), array.tobytes()
            rows.append((key, kind, shape, content, _checksum(key, kind, shape, content)))
        try:
            with self._lock, self._base:
                self._base.executemany("INSERT OR REPLACE INTO arrays VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            logger.warning("%s: arrays could not be kept (%s)", self.path, error)

    def close(self) -> None:
        """Closes the file."""
        if self._base is not None:
            with self._lock:
                self._base.close()

    def _select(self, columns: str, keys: Iterable[bytes]) -> list[tuple[Any, ...]]:
        asked, rows = list(dict.fromkeys(keys)), list[tuple[Any, ...]]()
        if self._base is None:
            return rows
        try:
            with self._lock:
                for start in range(0, len(asked), _KEYS_AT_ONCE):
                    some = asked[start : start + _KEYS_AT_ONCE]
                    places = ",".join("?" * len(some))
                    rows += self._base.execute(f"SELECT {columns} FROM arrays WHERE key IN ({places})", some).fetchall()
        except sqlite3.Error as error:
            logger.warning("%s: arrays could not be read (%s); delete the file if this goes on", self.path, error)
        return rows


def in_cache(kind: str, fingerprint: str, folder: Path | None = None) -> Store:
    """Opens the store of a kind of arrays and a fingerprint, in a folder or else in the cache folder."""
    path = (folder or cache_folder()) / kind / f"{fingerprint}.sqlite"
    with suppress(OSError):  # the store says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    store = Store(path, fingerprint)
    if store.error is not None:
        logger.warning("%s: arrays cannot be kept there (%s); is it damaged? Delete it", path, store.error)
    return store


def _checksum(key: bytes, kind: str, shape: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(f"{kind} {shape}".encode(), zlib.crc32(key)))


def _read(key: bytes, kind: str, shape: str, content: bytes, checksum: int) -> NDArray[Any] | None:
    """Returns the array of a row, or None where the row is damaged."""
    try:
        if _checksum(key, kind, shape, content) != checksum:
            return None
        return np.frombuffer(content, dtype=kind).reshape([int(length) for length in shape.split()])
    except (TypeError, ValueError, AttributeError):
        return None
