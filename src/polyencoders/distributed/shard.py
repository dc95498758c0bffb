"""One share of an index in a process of its own: it loads what it is asked for, and searches it.

A shard keeps nothing that is not in storage: one that is started again loads its share with the next search. Knows
shares of indexes; nothing of the other shards.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.errors import IndexingError
from polyencoders.index.searching import Found
from polyencoders.index.share import Share, View
from polyencoders.index.table import Table

VIEWS_KEPT = 2
"""That which is searched, and the one before it, for searches that began with it."""


class StaleViewError(IndexingError):
    """What is to be searched is in storage no more; there is something newer."""


class Loaded(NamedTuple):
    """What a shard holds of a view."""

    view: View
    documents: int
    beside: int
    """Of them: those that no layout holds."""


class Part(NamedTuple):
    """What a shard found."""

    view: View
    documents: int
    """That it holds, found or not."""
    found: list[dict[int, Found]]
    """By query and segment, places as in the whole index."""
    records: dict[tuple[int, int], tuple[str, str | None, dict[str, Any]]]
    """Id, text and metadata of each document found, by segment and place."""


class Shard:
    """A share of an index. Its methods may be called by several threads.

    Parameters
    ----------
    path
        The index, where this machine finds it.
    part, parts
        Which share it is, from 0, of how many.
    threads
        With which it searches.
    """

    def __init__(self, path: str, part: int, parts: int, threads: int) -> None:
        self._path, self._part, self._parts, self._threads = Path(path), part, parts, threads
        self._shares: dict[View, Share] = {}
        self._loading = threading.Lock()

    def load(self, view: View) -> Loaded:
        """Have the share of a view in memory.

        Raises
        ------
        StaleViewError
            It is not in storage.
        """
        share = self._share(view)
        return Loaded(view, share.size, share.beside)

    def search(
        self,
        view: View,
        codes: NDArray[np.float64],
        k: int,
        temperature: float,
        where: str | None,
        share: float | None,
        least: int,
    ) -> Part:
        """The best documents of its share for each query; parameters as for `Share.find`.

        Raises
        ------
        StaleViewError
            The view is not in storage.
        IndexingError
            The filter cannot be used.
        """
        torch.set_num_threads(self._threads)  # of the calling thread
        here = self._share(view)
        found = here.find(codes, k, temperature, where, share, least)
        places = {
            (int(segment), int(place))
            for segments in found
            for one in segments.values()
            for segment, place in zip(one.segments, one.places, strict=True)
        }
        return Part(view, here.size, found, {place: here.read_in_the_whole(*place) for place in places})

    def _share(self, view: View) -> Share:
        with self._loading:
            share = self._shares.pop(view, None)
            if share is None:
                share = self._read(view)
            self._shares[view] = share  # the newest last
            while len(self._shares) > VIEWS_KEPT:
                self._shares.pop(next(iter(self._shares)))
            return share

    def _read(self, view: View) -> Share:
        torch.set_num_threads(self._threads)
        before = next(reversed(self._shares.values()), None)
        try:
            return Share(Table.open(self._path, view.version), view, self._part, self._parts, before)
        except (OSError, ValueError, KeyError, IndexingError) as error:
            raise StaleViewError(f"version {view.version} could not be read: {error}") from error
