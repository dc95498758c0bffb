"""One slice of an index in a process of its own: it loads what it is asked for, and searches it.

A shard keeps nothing that is not in storage: one that is started again loads its slice with the next search. Knows
slices of indexes; nothing of the other shards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.errors import IndexingError, StorageError
from polyencoders.index import storage
from polyencoders.index.searching import Found, Promises, Wanted
from polyencoders.index.slices import Slice, View
from polyencoders.index.table import Table

Codes = NDArray[np.float32] | NDArray[np.float64]
"""`(q, m, d)`; searched as float64, and sent as float32 where nothing is lost by it."""

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
    tiles: int
    """Of the layout, with documents."""


class Part(NamedTuple):
    """What a shard found."""

    view: View
    documents: int
    """That it holds, found or not."""
    found: list[dict[int, Found]]
    """By query and segment, places as in the whole index."""
    records: dict[tuple[int, int], tuple[str, str | None, dict[str, Any]]]
    """Id, text and metadata of each document found, by segment and place."""
    seconds: float
    """That the search took in its process."""


class Shard:
    """A slice of an index. Its methods may be called by several threads.

    Parameters
    ----------
    place
        The index, where this machine finds it.
    options
        How object storage is reached, as for `Index.open`.
    part, parts
        Which slice it is, from 0, of how many.
    threads
        With which it searches.
    """

    def __init__(self, place: str, options: Mapping[str, str] | None, part: int, parts: int, threads: int) -> None:
        self._place, self._options = place, options
        self._part, self._parts, self._threads = part, parts, threads
        self._slices: dict[View, Slice] = {}
        self._loading = threading.Lock()

    def load(self, view: View) -> Loaded:
        """Have the slice of a view in memory.

        Raises
        ------
        StaleViewError
            It is not in storage.
        StorageError
            Object storage does not answer.
        """
        slice = self._slice(view)
        tiles = len(slice.segments[0].everything.tiles) if slice.layout is not None else 0
        return Loaded(view, slice.size, slice.beside, tiles)

    def promises(self, view: View, codes: Codes, where: str | None, most: int | None) -> Promises:
        """How promising its tiles are to each query; parameters and errors as for `search` and `Slice.promises`."""
        torch.set_num_threads(self._threads)  # of the calling thread
        return self._slice(view).promises(codes.astype(np.float64), where, most)

    def search(
        self,
        view: View,
        codes: Codes,
        wanted: Wanted,
        numbers: NDArray[np.int64] | None = None,
    ) -> Part:
        """The best documents of its slice for each query.

        Parameters
        ----------
        view
            What is searched.
        codes, wanted
            As for `Slice.find`.
        numbers
            `(parts, q)`: how many of its tiles each shard is to look at; None: all.

        Raises
        ------
        StaleViewError
            The view is not in storage.
        IndexingError
            The filter cannot be used.
        """
        started = time.perf_counter()
        torch.set_num_threads(self._threads)  # of the calling thread
        here = self._slice(view)
        found = here.find(codes.astype(np.float64), wanted, numbers[self._part] if numbers is not None else None)
        places = {
            (int(segment), int(place))
            for segments in found
            for one in segments.values()
            for segment, place in zip(one.segments, one.places, strict=True)
        }
        records = {place: here.read_in_the_whole(*place) for place in places}
        return Part(view, here.size, found, records, time.perf_counter() - started)

    def _slice(self, view: View) -> Slice:
        with self._loading:
            slice = self._slices.pop(view, None)
            if slice is None:
                slice = self._read(view)
            self._slices[view] = slice  # the newest last
            while len(self._slices) > VIEWS_KEPT:
                self._slices.pop(next(iter(self._slices)))
            return slice

    def _read(self, view: View) -> Slice:
        torch.set_num_threads(self._threads)
        before = next(reversed(self._slices.values()), None)
        try:
            table = Table.open(storage.existing(self._place, self._options), view.version)
            return Slice(table, view, self._part, self._parts, before)
        except StorageError:
            raise  # it may answer the next time
        except (OSError, ValueError, KeyError, IndexingError) as error:
            raise StaleViewError(f"version {view.version} could not be read: {error}") from error
