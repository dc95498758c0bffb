"""The index behind a server: searched by many requests at once, changed by one at a time.

Knows indexes; nothing of HTTP.
"""

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
from polyencoders.index import Added, Answer, Index, IndexInfo, Maker

T = TypeVar("T")
Encode = Callable[[list[str], Callable[[int], object]], NDArray[np.float32]]


class Library:
    """An index that is searched at its latest version, whoever wrote it. Its methods block, but those that change it;
    any thread may call them.

    A search holds on to the version that it began with; a change becomes visible when it is whole.

    Parameters
    ----------
    index
        Open, with its model.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._changing = threading.Lock()
        # A thread of their own: changes wait for one another, and searches must not wait for a thread behind them.
        self._changer = ThreadPoolExecutor(1, "changes")
        self._about: IndexInfo | None = None
        _ = index.snapshot  # vectors are read now, not with the first request

    @property
    def name(self) -> str:
        """What clients see; never a path."""
        return Path(self._index.path).resolve().name  # of a place in object storage, the last part too

    @property
    def version(self) -> int:
        """Of what is searched."""
        return self._index.version

    @property
    def whole(self) -> bool:
        """Whether all of it can be searched now."""
        return self._index.whole

    def __len__(self) -> int:
        return len(self._index)

    def info(self) -> IndexInfo:
        """What there is to know of it; asked of the disk once a version."""
        if self._about is None or self._about.version != self.version:
            self._about = self._index.info()
        return self._about

    def search(
        self,
        codes: NDArray[np.float32],
        k: int,
        where: str | None,
        mode: str,
        share: float | None,
        temperature: float | None = None,
    ) -> list[Answer]:
        """Hits of query codes `(q, m, d)` or vectors `(q, d)`; the temperature is that of the index's own model.

        Raises
        ------
        IndexingError
            The filter cannot be used.
        ClusterError
            A machine that holds a share of it is lost.
        """
        answers: list[Answer] = self._index.search(codes, k, where, mode, share, temperature)
        return answers

    def vectors(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Document vectors by id, each `(d,)`; of those that are there."""
        return self._index.vectors(ids)

    def sample(self, number: int) -> list[dict[str, Any]]:
        """Some documents, from all over the index."""
        return self._index.sample(number)

    def has_vectors_of(self, model: Encoder) -> bool:
        """Whether the index's vectors are those that this model would make of its documents."""
        maker = self._index.maker
        return maker is not None and Maker.of(model).documents == maker.documents

    def get(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Documents by id; those that are there."""
        return self._index.get(ids)

    async def add(self, documents: Sequence[Any], encode: Encode) -> tuple[Added, int]:
        """Add documents, or replace those whose ids are there: once it returns they are on disk, and are found.

        Returns
        -------
        tuple of Added and int
            What was done, and the version that holds it.

        Raises
        ------
        DataError, IndexingError
            A document cannot be used, or none could be written.
        """
        return await self._change(lambda: self._index.add(documents, encode=encode))

    async def delete(self, ids: Sequence[str] | None, where: str | None) -> tuple[int, int]:
        """Delete documents by id or by a filter; gives how many, and the version without them."""
        return await self._change(lambda: self._index.delete(ids, where=where))

    async def _change(self, how: Callable[[], T]) -> tuple[T, int]:
        def change() -> tuple[T, int]:
            with self._changing:
                return how(), self._index.version

        return await asyncio.get_running_loop().run_in_executor(self._changer, change)

    def close(self) -> None:
        """Leave changes that wait; one that is under way ends."""
        self._changer.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Look at the latest version, unless a change is under way, which ends by doing so."""
        if self._changing.acquire(blocking=False):
            try:
                self._index.refresh()
            finally:
                self._changing.release()
