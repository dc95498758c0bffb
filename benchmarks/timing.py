"""The times of calls, and of contenders that take turns."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

SLOW = 0.2
"""Seconds from which a contender is timed in five rounds rather than in all."""


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """The seconds of one call."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def medians(
    contenders: dict[str, Callable[[int], Any]], rounds: int, what: str, queries: int = sys.maxsize
) -> dict[str, float]:
    """The median milliseconds of each contender. They take turns; a first round only warms up.

    A contender searches for the query whose number it is given, below `queries`.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in tqdm(range(rounds + 1), desc=what, leave=False):
        for name, search in contenders.items():
            if number > 5 and statistics.median(times[name]) > SLOW:
                continue
            took = seconds(search, number % queries)
            times[name] += [took] if number else []
    return {name: statistics.median(taken) * 1e3 for name, taken in times.items()}
