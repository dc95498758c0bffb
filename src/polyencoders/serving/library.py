"""The index behind a server: many requests search it at once, one at a time changes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders import Encoder
from polyencoders.index import Added, Answer, Index, IndexInfo

T = TypeVar("T")
Encode = Callable[[list[str], Callable[[int], object]], NDArray[np.float32]]


class Library:
    """Searches an index at its latest version, whoever wrote it.

    A search keeps the version that it began with; a change becomes visible when it is complete. Any thread may call the
    methods. Those that are no coroutines block.

    Parameters
    ----------
    index
        Open, with its model.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._changing = threading.Lock()
        # Changes have a thread of their own: they wait for one another, and searches must not wait behind them.
        self._changer = ThreadPoolExecutor(1, "changes")
        self._info: IndexInfo | None = None
        _ = index.snapshot  # reads the vectors now, and not with the first request
        self.search: Callable[..., list[Answer]] = index.search
        self.vectors, self.sample, self.get = index.vectors, index.sample, index.get

    @property
    def name(self) -> str:
        """What clients see: the last part of the index's place, never a path."""
        return Path(self._index.path).resolve().name

    @property
    def version(self) -> int:
        """The version that is searched."""
        return self._index.version

    @property
    def whole(self) -> bool:
        """Whether all of it can be searched now."""
        return self._index.whole

    def __len__(self) -> int:
        return len(self._index)

    def info(self) -> IndexInfo:
        """Return facts about the index, read from storage once a version."""
        if self._info is None or self._info.version != self.version:
            self._info = self._index.info()
        return self._info

    def has_vectors_of(self, model: Encoder) -> bool:
        """Tell whether the index's vectors are those that this model makes of its documents."""
        maker = self._index.maker
        return maker is not None and model.fingerprints.documents == maker.documents

    async def add(self, documents: Sequence[Any], encode: Encode) -> tuple[Added, int]:
        """Add documents, or replace those with the same ids; return what was done, and the version that holds it.

        When it returns, the documents are on disk and are found.

        Raises
        ------
        DataError, IndexingError
            A document cannot be used, or the index cannot be written.
        """
        return await self._change(lambda: self._index.add(documents, encode=encode))

    async def delete(self, ids: Sequence[str] | None, where: str | None) -> tuple[int, int]:
        """Delete documents by id or by a filter; return how many, and the version without them."""
        return await self._change(lambda: self._index.delete(ids, where=where))

    async def _change(self, how: Callable[[], T]) -> tuple[T, int]:
        def change() -> tuple[T, int]:
            with self._changing:
                return how(), self._index.version

        return await asyncio.get_running_loop().run_in_executor(self._changer, change)

    def close(self) -> None:
        """Drop changes that wait; one that has begun completes."""
        self._changer.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Search the latest version, unless a change is in progress, which ends by doing so."""
        if self._changing.acquire(blocking=False):
            try:
                self._index.refresh()
            finally:
                self._changing.release()
