"""The index behind a server: many requests search it at once, one at a time changes it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from polyencoders.index import Added, Index, IndexInfo
from polyencoders.index.passages import keeps_passages

T = TypeVar("T")
Encode = Callable[[list[str], Callable[[int], object]], NDArray[np.float32]]


class Library:
    """Searches an index, opened with its model, at its latest version, whoever wrote it.

    A search keeps the version that it began with; a change becomes visible when it is complete. Any thread may call the
    methods. Those that are no coroutines block.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._changing = threading.Lock()
        # Changes have a thread of their own: they wait for one another, and searches must not wait behind them.
        self._changer = ThreadPoolExecutor(1, "changes")
        self._info: IndexInfo | None = None
        _ = index.snapshot  # reads the vectors now, and not with the first request

    @property
    def name(self) -> str:
        """What clients see: the last part of the index's place, never a path."""
        return Path(self.index.path).resolve().name

    def info(self) -> IndexInfo:
        """Return facts about the index, read from storage once a version."""
        if self._info is None or self._info.version != self.index.version:
            self._info = self.index.info()
        return self._info

    async def add(self, documents: Sequence[Any], encode: Encode) -> tuple[Added, int]:
        """Add documents, or replace those with the same ids; return what was done, and the version that holds it.

        An index that keeps passages gets those of long documents. When it returns, the documents are on disk and are
        found.
        """
        return await self._change(
            lambda: self.index.add(documents, encode=encode, passages=keeps_passages(self.index.snapshot.table.schema))
        )

    async def delete(self, ids: Sequence[str] | None, where: str | None) -> tuple[int, int]:
        """Delete documents by id or by a filter; return how many, and the version without them."""
        return await self._change(lambda: self.index.delete(ids, where=where))

    async def _change(self, how: Callable[[], T]) -> tuple[T, int]:
        def change() -> tuple[T, int]:
            with self._changing:
                return how(), self.index.version

        return await asyncio.get_running_loop().run_in_executor(self._changer, change)

    def close(self) -> None:
        """Drop changes that wait; one that has begun completes."""
        self._changer.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Search the latest version, unless a change is in progress, which ends by doing so."""
        if self._changing.acquire(blocking=False):
            try:
                self.index.refresh()
            finally:
                self._changing.release()
