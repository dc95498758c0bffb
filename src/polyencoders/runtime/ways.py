"""Encodes many texts on a graph in the fastest of a few ways. The first texts are the trial, which so costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from polyencoders.encoders.batches import batches
from polyencoders.encoders.protocols import Vectors
from polyencoders.runtime.graph import Graph
from polyencoders.scoring import threads

TOKENS_AT_ONCE = 512
"""Tokens in a batch: enough to keep matrix products busy, few enough for the processor's cache (2,048 take a fifth more
time)."""
ROUNDS = 3
"""Times that each way is tried; its fastest counts, because another process may slow down any of them."""

Run = Callable[[Graph, list[int]], Vectors]
"""Encodes the texts at some places on a graph."""


class Way(NamedTuple):
    """How batches are shared by threads."""

    name: str
    graph: Graph
    at_once: int
    """Batches that are computed at the same time."""
    tokens: int
    """Tokens of a batch."""


class Ways:
    """One batch at a time on all threads, small or large, or a batch for each thread.

    Which is the fastest depends on the processor and on what else runs there. So the first texts are encoded in each
    way in turn, a few times, and the others in the way that read most tokens a second. On one thread there is one way.
    Several threads may encode at once.

    Parameters
    ----------
    graph
        A graph that uses all threads.
    open_for
        Opens the same graph for so many runs at the same time, which share the threads.
    """

    def __init__(self, graph: Graph, open_for: Callable[[int], Graph]) -> None:
        number = threads()
        ways = [Way(f"one batch of {TOKENS_AT_ONCE} tokens", graph, 1, TOKENS_AT_ONCE)]
        if number > 1:
            large = number * TOKENS_AT_ONCE
            ways += [
                Way(f"one batch of {large:,} tokens", graph, 1, large),
                Way(f"{number} batches of {TOKENS_AT_ONCE} tokens", open_for(number), number, TOKENS_AT_ONCE),
            ]
        self._share = 2 * number * TOKENS_AT_ONCE  # what one trial reads: two batches for each thread
        self._rates: dict[Way, list[float]] = {way: [] for way in ways}  # one way: it is chosen
        self.said = ""
        """What the trial found; empty before it ends, and where there is one way."""

    def encode(self, lengths: Sequence[int], run: Run) -> Iterator[tuple[list[int], Vectors]]:
        """Yield places of texts and what `run` makes of them, the longest texts first. Lengths are in tokens."""
        shares = list(batches(lengths, self._share))
        for number, places in enumerate(shares):
            rates = self._rates  # another thread may choose meanwhile, which puts others in their place
            if len(rates) == 1:
                (way,) = rates
                yield from _in(way, [place for share in shares[number:] for place in share], lengths, run)
                return
            way = min(rates, key=lambda one: len(rates[one]))
            started = time.perf_counter()
            done = list(_in(way, places, lengths, run))
            took = time.perf_counter() - started
            yield from done
            if number < len(shares) - 1:  # the last share is smaller
                rates[way].append(sum(lengths[place] for place in places) / took)
            if rates is self._rates and all(len(some) >= ROUNDS for some in rates.values()):
                self._choose(rates)

    def _choose(self, rates: dict[Way, list[float]]) -> None:
        found = {way: max(some) for way, some in rates.items()}
        best = max(found, key=lambda way: found[way])
        others = ", ".join(f"{way.name}: {found[way]:,.0f}" for way in found if way is not best)
        self.said = f"{best.name} at a time: {found[best]:,.0f} tokens a second in a trial ({others})"
        self._rates = {best: []}  # the graphs of the others are closed


def _in(way: Way, places: list[int], lengths: Sequence[int], run: Run) -> Iterator[tuple[list[int], Vectors]]:
    parts = [[places[i] for i in part] for part in batches([lengths[place] for place in places], way.tokens)]
    pool = ThreadPoolExecutor(way.at_once)
    try:
        yield from zip(parts, pool.map(partial(run, way.graph), parts), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # whoever interrupts waits for no more than one batch
