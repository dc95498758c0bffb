"""One thread that does all work of a model, in batches from many requests, and refuses more than it can do soon.

Two threads must not use a tokeniser at once, and one batch already keeps all cores busy. Short work (queries)
alternates with long work (documents), which is cut into pieces: a search waits for a piece, not for a thousand
documents.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import PolyencodersError

Lane = Literal["short", "long"]
Work = Callable[[list[Any]], NDArray[np.float32]]  # Turns items into as many rows
Watch = Callable[[Lane, int, float], object]
"""Called after each batch with its lane, its number of items and its seconds."""

SHORT_AT_ONCE = 32  # Items of the short lane in a batch
LONG_AT_ONCE = 16_384
"""Characters of the long lane in a batch, at most: some 4,000 tokens, enough to keep a processor busy."""
LONG_SECONDS = 0.5  # The longest such batch: short work may wait for so long
OVERHEAD = 32  # Characters added to the cost of each item, for special tokens and tokenising
FIRST_PACE = 5e-5  # Seconds for each character, until it is given or measured
_OTHER: dict[Lane, Lane] = {"short": "long", "long": "short"}


def ignore(lane: Lane, items: int, seconds: float) -> None:
    """Watch nothing."""


class BusyError(PolyencodersError):
    """More work waits than can be done soon."""

    def __init__(self, seconds: float) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"the server is busy: come back in {self.retry_after} s")


class Worker:
    """A thread that does the work of many requests, in two lanes.

    It lets `wait` seconds of work wait. Of an item, the first `longest` characters count in full; the rest is
    tokenised and cut, and counts a fiftieth. `paces` are the first guesses of a lane's seconds for each character.

    >>> worker = Worker(short=lambda items: np.array(items) * 2.0, long=lambda items: np.array(items) * 3.0)
    >>> worker.submit("short", [1, 2]).result().tolist()
    [2.0, 4.0]
    >>> worker.close()
    """

    def __init__(
        self,
        short: Work,
        long: Work,
        wait: float = 10.0,
        longest: int = 2_000,
        watch: Watch = ignore,
        paces: Mapping[Lane, float] | None = None,
    ) -> None:
        self._wait, self._longest, self._watch = wait, longest, watch
        self._lanes: dict[Lane, _Lane] = {"short": _Lane(short), "long": _Lane(long)}
        for lane, pace in (paces or {}).items():
            self._lanes[lane].pace = pace
        self._turn: Lane = "short"
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> float:
        """Seconds until all that waits now will be done, by the recent pace."""
        return sum(lane.cost * lane.pace for lane in self._lanes.values())

    def submit(self, lane: Lane, items: Sequence[Any]) -> Future[NDArray[np.float32]]:
        """Queue at least one item; return the future of an array with a row for each.

        Cancelling the future drops the items that have not begun. Raises `BusyError` if more waits than can be done in
        time; if nothing waits, no request is too large.
        """
        job = _Job([(item, self._cost(item)) for item in items])
        with self._changed:
            backlog = self.backlog
            if self._closing or backlog > self._wait:
                raise BusyError(backlog - self._wait / 2)
            self._lanes[lane].put(job)
            self._changed.notify()
        return job.future

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Call a function in this thread."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise BusyError(1)
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _cost(self, item: Any) -> int:
        size = _size(item)
        return min(size, self._longest) + max(0, size - self._longest) // 50 + OVERHEAD

    def _run(self) -> None:
        while True:
            batch: list[_Part] = []
            call = None
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._calls or any(self._lanes.values()))
                if self._calls:
                    call = self._calls.popleft()
                elif any(self._lanes.values()):
                    # The lane whose turn it is: neither waits for more than a batch of the other.
                    name = self._turn if self._lanes[self._turn] else _OTHER[self._turn]
                    self._turn = _OTHER[name]
                    lane = self._lanes[name]
                    batch = lane.take(SHORT_AT_ONCE, True) if name == "short" else lane.take(lane.room, False)
                else:
                    return
            if call is not None:
                _settle(*call)
            elif batch:
                self._do(name, batch)

    def _do(self, name: Lane, batch: "list[_Part]") -> None:
        lane = self._lanes[name]
        items = [item for part in batch for item, _ in part.items]
        started = time.perf_counter()
        try:
            rows = lane.work(items)
        except BaseException as error:
            if len(batch) > 1:  # an error of one request does not fail the others
                for part in batch:
                    self._do(name, [part])
                return
            with self._changed:
                lane.drop(batch[0].job)
                lane.cost -= batch[0].cost
            with suppress(InvalidStateError):
                batch[0].job.future.set_exception(error)
            return
        seconds = time.perf_counter() - started
        with self._changed:
            lane.learn(sum(part.cost for part in batch), seconds)
        self._watch(name, len(items), seconds)
        start = 0
        for part in batch:
            part.job.add(rows[start : start + len(part.items)])
            start += len(part.items)


def pace_of(work: Work, items: list[Any]) -> float:
    """Return the seconds that work takes for each character of such items, after a first run that warms it up."""
    work(items)
    started = time.perf_counter()
    work(items)
    return (time.perf_counter() - started) / sum(_size(item) + OVERHEAD for item in items)


class _Job:
    """The items of one request with their costs, and the rows computed so far."""

    def __init__(self, items: list[tuple[Any, int]]) -> None:
        self.items = items
        self.given_out = 0
        self.future: Future[NDArray[np.float32]] = Future()
        self._rows: list[NDArray[np.float32]] = []

    @property
    def rest(self) -> list[tuple[Any, int]]:
        """The items that are in no batch yet."""
        return self.items[self.given_out :]

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add the rows of the next items."""
        self._rows.append(rows)
        if sum(map(len, self._rows)) == len(self.items):
            _settle(self.future, lambda: np.concatenate(self._rows))


class _Part:
    """The items of a job that are in one batch."""

    def __init__(self, job: _Job, items: list[tuple[Any, int]]) -> None:
        self.job, self.items = job, items
        self.cost = sum(cost for _, cost in items)


class _Lane:
    """Jobs that wait, in order of arrival, with their total cost in characters, and the pace of the work."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cost = 0
        self.pace = FIRST_PACE
        self._jobs: deque[_Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def room(self) -> int:
        """Characters of a batch."""
        return min(LONG_AT_ONCE, round(LONG_SECONDS / self.pace))

    def put(self, job: _Job) -> None:
        self._jobs.append(job)
        self.cost += sum(cost for _, cost in job.items)

    def take(self, room: int, count: bool) -> list[_Part]:
        """Take the next items, at least one, until they number (`count`) or cost `room`."""
        batch: list[_Part] = []
        while self._jobs and room > 0:
            job = self._jobs[0]
            if job.future.cancelled():
                self.drop(job)
                continue
            start = job.given_out
            while job.given_out < len(job.items) and room > 0:
                room -= 1 if count else job.items[job.given_out][1]
                job.given_out += 1
            batch.append(_Part(job, job.items[start : job.given_out]))
            if not job.rest:
                self._jobs.popleft()
        return batch

    def drop(self, job: _Job) -> None:
        """Drop the items of a job that are in no batch yet."""
        self.cost -= sum(cost for _, cost in job.rest)
        if job in self._jobs:
            self._jobs.remove(job)

    def learn(self, cost: int, seconds: float) -> None:
        """Note that a batch is done."""
        self.cost -= cost
        self.pace += 0.2 * (seconds / cost - self.pace)


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    """Set a future to what a function returns or raises, unless it was cancelled."""
    with suppress(InvalidStateError):
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)


def _size(item: Any) -> int:
    """Return the characters of a text, of the turns of a conversation, or of a pair."""
    return len(item) if isinstance(item, str) else sum(map(_size, item)) if isinstance(item, list | tuple) else 1
