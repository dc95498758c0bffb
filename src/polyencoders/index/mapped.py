"""Arrays in files that are larger than the memory they take: written and read through a mapping."""

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

_BYTES_AT_ONCE = 48 << 20


class Written:
    """An array in a `.npy` file as it is written; what was written need not stay in memory."""

    def __init__(self, path: Path, shape: tuple[int, ...], kind: Any = np.float32) -> None:
        self.path = path
        self._bytes = 0
        self.array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here; while writing to memory it would be a crash
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)

    def touched(self, rows: int) -> None:
        """Tell that so many rows were read or written: now and then the system takes back their memory."""
        self._bytes += rows * self.array[:1].nbytes
        if self._bytes >= _BYTES_AT_ONCE:
            self._bytes = 0
            self.array.flush()
            release(self.array)

    def remove(self) -> None:
        self.array = None
        self.path.unlink()


def release(mapped: Any) -> None:
    """Have the system take back the memory of a mapped file."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)
