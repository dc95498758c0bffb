"""A slice of an index in a process of its own.

A shard keeps nothing that is not in storage: after a restart it loads its slice with the next search.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.words import Totals
from polyencoders.errors import IndexingError, StorageError
from polyencoders.index import storage
from polyencoders.index.searching import Found, Promises, Wanted
from polyencoders.index.slices import Slice, View
from polyencoders.index.table import Table
from polyencoders.scoring import set_threads

Codes = NDArray[np.float32] | NDArray[np.float64]
"""`(q, m, d)`; searched as float64, and sent as float32 where that loses nothing."""

VIEWS_KEPT = 2  # The view that is searched, and the one before it, for searches that began with it


class StaleViewError(IndexingError):
    """The view to be searched is no longer in storage; there is a newer one."""


class Loaded(NamedTuple):
    """What a shard holds of a view."""

    documents: int
    beside: int  # Documents that are not in the layout


class Part(NamedTuple):
    """What a shard found."""

    view: View
    documents: int  # How many documents the shard holds
    found: list[dict[int, Found]]  # By query and segment; places are those in the whole index
    records: dict[tuple[int, int], tuple[str, str | None, dict[str, Any]]]
    """Id, text and metadata of each document found, by segment and place."""
    seconds: float  # How long the search took in the shard's process


class Shard:
    """Searches slice number `part` of `parts` of the index at `place`. Several threads may call its methods."""

    def __init__(self, place: str, options: Mapping[str, str] | None, part: int, parts: int, threads: int) -> None:
        set_threads(threads)
        self._place, self._options = place, options
        self._part, self._parts = part, parts
        self._slices: dict[View, Slice] = {}
        self._holding, self._loading = threading.Lock(), threading.Lock()

    def load(self, view: View) -> Loaded:
        """Load the slice of a view into memory; raise `StaleViewError` if the view is not in storage."""
        slice = self._slice(view)
        return Loaded(slice.size, slice.beside)

    def totals(self, view: View, words: list[str]) -> Totals:
        """Return what BM25 needs to know of its documents."""
        return self._slice(view).totals(words)

    def promises(self, view: View, codes: Codes, wanted: Wanted, most: int | None) -> Promises:
        """Return how promising its tiles are for each query."""
        return self._slice(view).promises(codes.astype(np.float64), wanted, most)

    def search(self, view: View, codes: Codes, wanted: Wanted, numbers: NDArray[np.int64] | None = None) -> Part:
        """Return the best documents of its slice for each query, as `Slice.find` does.

        `numbers` `(parts, q)` tells how many documents of its tiles each shard searches; None: all.
        """
        started = time.perf_counter()
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
        if (held := self._held(view)) is not None:  # also while another view is loaded
            return held
        with self._loading:
            if (held := self._held(view)) is not None:  # it was loaded meanwhile
                return held
            slice = self._read(view)
            with self._holding:
                self._slices[view] = slice
                while len(self._slices) > VIEWS_KEPT:
                    self._slices.pop(next(iter(self._slices)))
            return slice

    def _held(self, view: View) -> Slice | None:
        with self._holding:
            if (slice := self._slices.pop(view, None)) is not None:
                self._slices[view] = slice  # the newest is last
            return slice

    def _read(self, view: View) -> Slice:
        with self._holding:
            before = next(reversed(self._slices.values()), None)
        try:
            table = Table.open(storage.existing(self._place, self._options), view.version)
            return Slice(table, view, self._part, self._parts, before)
        except StorageError:
            raise  # it may answer the next time
        except (OSError, ValueError, KeyError, IndexingError) as error:
            raise StaleViewError(f"version {view.version} could not be read: {error}") from error
