"""One thread in which a model does all its work, many requests at a time; and the refusal of more than it can do soon.

Tokenisers must not be used by two threads at once, and a processor's cores are busy with one batch already: so there is
one thread, which takes what waits. Short work (queries) goes by turns with long work (documents), which is cut into
slices: a search waits for a slice, not for a thousand documents. Knows nothing of what the work is.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import PolyencodersError

Lane = Literal["short", "long"]
Work = Callable[[list[Any]], NDArray[np.float32]]
"""Items to as many rows."""

SHORT_AT_ONCE = 32
"""Items of the short lane in a batch."""
LONG_AT_ONCE = 16_384
"""Characters of the long lane in a slice, at most: some 4,000 tokens, as many as keep a processor busy."""
SLICE_SECONDS = 0.5
"""Of a slice, where that many characters would take longer: so long may short work have to wait."""
OVERHEAD = 32
"""Characters that an item costs besides its own: special tokens, tokenising."""
FIRST_PACE = 5e-5
"""Seconds a character takes, until it is told or batches have shown."""


class BusyError(PolyencodersError):
    """More work waits than can be done soon."""

    def __init__(self, seconds: float) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"the server is busy: come back in {self.retry_after} s")


class Worker:
    """A thread that works off what many requests ask for.

    Parameters
    ----------
    short, long
        What is done with items of either lane: a list of them to an array with as many rows.
    wait
        Seconds of work that may wait; `BusyError` beyond.
    longest
        Characters of an item that count in full: the rest is tokenised and cut, at a fiftieth of the cost.
    watch
        Called after each batch with its lane, its number of items and its seconds.
    paces
        Seconds a character takes in a lane, at first; see `pace_of`.

    Examples
    --------
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
        watch: Callable[[Lane, int, float], object] = lambda lane, items, seconds: None,
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
        """Seconds until all that waits now will be done, by the pace of late."""
        return sum(lane.cost * lane.pace for lane in self._lanes.values())

    def submit(self, lane: Lane, items: Sequence[Any]) -> Future[NDArray[np.float32]]:
        """Ask for items, at least one, to be worked on.

        Returns
        -------
        concurrent.futures.Future
            Of an array with a row for each item. Cancelled, what of it has not been begun is left.

        Raises
        ------
        BusyError
            More waits than can be done in time. With nothing waiting, no request is too large.
        """
        job = _Job([(item, self._cost(_size(item))) for item in items])
        with self._changed:
            backlog = self.backlog
            if self._closing or backlog > self._wait:
                raise BusyError(backlog - self._wait / 2)
            self._lanes[lane].put(job)
            self._changed.notify()
        return job.future

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Do something else in the model's thread."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise BusyError(1)
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Work off what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _cost(self, size: int) -> int:
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
                    name = self._next_lane()
                    lane = self._lanes[name]
                    batch = lane.take(SHORT_AT_ONCE, True) if name == "short" else lane.take(lane.slice, False)
                else:
                    return
            if call is not None:
                _settle(*call)
            elif batch:
                self._do(name, batch)

    def _next_lane(self) -> Lane:
        """By turns, so that neither lane keeps the other waiting for more than a batch."""
        other: Lane = "long" if self._turn == "short" else "short"
        lane = self._turn if self._lanes[self._turn] else other
        self._turn = "long" if lane == "short" else "short"
        return lane

    def _do(self, name: Lane, batch: list[_Part]) -> None:
        lane = self._lanes[name]
        items = [item for part in batch for item, _ in part.items]
        started = time.perf_counter()
        try:
            rows = lane.work(items)
        except BaseException as error:
            if len(batch) > 1:  # one request's trouble is not another's
                for part in batch:
                    self._do(name, [part])
                return
            with self._changed:
                lane.drop(batch[0].job)
                lane.cost -= batch[0].cost
            batch[0].job.fail(error)
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
    """Seconds a character of such items takes: tried twice, as the first time prepares much that stays."""
    work(items)
    started = time.perf_counter()
    work(items)
    return (time.perf_counter() - started) / sum(_size(item) + OVERHEAD for item in items)


class _Job:
    """The items of one request with what each costs, and the rows that they became so far."""

    def __init__(self, items: list[tuple[Any, int]]) -> None:
        self.items = items
        self.given_out = 0
        self.future: Future[NDArray[np.float32]] = Future()
        self._rows: list[NDArray[np.float32]] = []

    @property
    def rest(self) -> list[tuple[Any, int]]:
        """The items that no batch was given."""
        return self.items[self.given_out :]

    def add(self, rows: NDArray[np.float32]) -> None:
        """Rows of the next items."""
        self._rows.append(rows)
        if sum(map(len, self._rows)) == len(self.items):
            _settle(self.future, lambda: np.concatenate(self._rows))

    def fail(self, error: BaseException) -> None:
        """There will be no rows."""

        def raise_it() -> None:
            raise error

        _settle(self.future, raise_it)


class _Part:
    """Items of a job that are in one batch."""

    def __init__(self, job: _Job, items: list[tuple[Any, int]]) -> None:
        self.job, self.items = job, items
        self.cost = sum(cost for _, cost in items)


class _Lane:
    """Jobs that wait, in the order they came, what they will cost in all, and the pace at which that is worked off."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cost = 0
        self.pace = FIRST_PACE
        self._jobs: deque[_Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def slice(self) -> int:
        """Characters that are worked on at a time."""
        return min(LONG_AT_ONCE, round(SLICE_SECONDS / self.pace))

    def put(self, job: _Job) -> None:
        self._jobs.append(job)
        self.cost += sum(cost for _, cost in job.items)

    def take(self, room: int, count: bool) -> list[_Part]:
        """The next items, until there are `room` of them (`count`), or they cost as much; one at least."""
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
        """Leave what of a job no batch was given."""
        self.cost -= sum(cost for _, cost in job.rest)
        if job in self._jobs:
            self._jobs.remove(job)

    def learn(self, cost: int, seconds: float) -> None:
        """A batch is done."""
        self.cost -= cost
        self.pace += 0.2 * (seconds / cost - self.pace)


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    """Tell what a function gives, or raises, unless nobody waits any more."""
    try:
        try:
            future.set_result(function())
        except InvalidStateError:
            raise
        except BaseException as error:
            future.set_exception(error)
    except InvalidStateError:
        pass


def _size(item: Any) -> int:
    """Characters of a text, of the turns of a conversation, or of a pair."""
    return len(item) if isinstance(item, str) else sum(map(_size, item)) if isinstance(item, list | tuple) else 1
