"""One thread that does all work of a model, in batches from many requests, and refuses what it cannot do in time.

Two threads must not use a tokeniser at once, and one batch already keeps all cores busy. Short work (queries)
alternates with long work (documents), which is done in slices. Each slice is shared among the requests that wait: three
documents are in the next slice, however many thousands wait beside them.

What is admitted is done within `wait` seconds. It is admitted if all that waits, and itself, takes no longer; so it
would be done in time if everything were done in the order of arrival. Slices are shared as long as that still holds for
every request, and are taken in the order of arrival when it would not.
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

from polyencoders.errors import RefusalError

Lane = Literal["short", "long"]
Work = Callable[[list[Any]], NDArray[np.float32]]  # Turns items into as many rows
Watch = Callable[[Lane, int, float], object]
"""Called after each batch with its lane, its number of items and its seconds."""

SHORT_AT_ONCE = 32  # Items of the short lane in a batch
LONG_AT_ONCE = 4_096  # Tokens of the long lane in a batch, at most: enough to keep a processor busy
AT_LEAST = 256  # Tokens of such a batch at least: fewer take nearly as long
LONG_SECONDS = 0.25  # The longest such batch: short work may wait for so long
SMALL = 1_024  # Tokens of a small request, such as three documents; it is never cut
FIRST_PACE = 2e-4  # Seconds for each token, until it is given or measured
MARGIN = 1.2  # How much slower than its recent pace the work may become before somebody is late
LEARNING = 0.2  # How much the newest batch counts for the pace
_OTHER: dict[Lane, Lane] = {"short": "long", "long": "short"}


def ignore(lane: Lane, items: int, seconds: float) -> None:
    """Watch nothing."""


class BusyError(RefusalError):
    """More work waits than can be done in time."""

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(reason or f"the server is busy: come back in {self.retry_after} s")


class Worker:
    """A thread that does the work of many requests, in two lanes, each within `wait` seconds.

    Items come with their costs in tokens. `paces` are the first guesses of a lane's seconds for each token.

    >>> worker = Worker(short=lambda items: np.array(items) * 2.0, long=lambda items: np.array(items) * 3.0)
    >>> worker.submit("short", [1, 2], costs=[4, 4]).result().tolist()
    [2.0, 4.0]
    >>> worker.close()
    """

    def __init__(
        self,
        short: Work,
        long: Work,
        wait: float = 10.0,
        watch: Watch = ignore,
        paces: Mapping[Lane, float] | None = None,
    ) -> None:
        self._wait, self._watch = wait, watch
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

    def submit(self, lane: Lane, items: Sequence[Any], costs: Sequence[int]) -> Future[NDArray[np.float32]]:
        """Queue at least one item; return the future of an array with a row for each.

        Cancelling the future drops the items that have not begun. Raises `BusyError` if it cannot be done in time.
        """
        job = _Job(list(zip(items, costs, strict=True)), time.monotonic() + self._wait)
        with self._changed:
            needed = sum(costs) * self._lanes[lane].pace
            if self._closing:
                raise BusyError(1)
            if MARGIN * needed > self._wait:
                if not self.backlog:  # perhaps only because the pace is not known well
                    self.call(lambda: self._measure(lane, job))
                raise BusyError(
                    self.backlog,
                    f"this takes about {needed:.0f} s, and a request may take {self._wait:g} s: send fewer texts at "
                    "once, or start the server with a longer --max-wait",
                )
            all_done = MARGIN * (self.backlog + needed)
            if all_done > self._wait:
                raise BusyError(all_done - self._wait)
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
                    lane, beside = self._lanes[name], self._lanes[_OTHER[name]]
                    if name == "short":
                        batch = lane.take(SHORT_AT_ONCE, count=True)
                    else:
                        batch = lane.take(lane.room, in_turn=lane.is_tight(beside.cost * beside.pace + LONG_SECONDS))
                else:
                    return
            if call is not None:
                _settle(*call)
            elif batch:
                self._do(name, batch)

    def _measure(self, name: Lane, job: "_Job") -> None:
        """Do a little of a job that was refused, to know the pace better when it is asked for again."""
        lane = self._lanes[name]
        given = job.give_out(AT_LEAST, count=False)
        started = time.perf_counter()
        lane.work([item for item, _ in given])
        lane.learn(sum(cost for _, cost in given), time.perf_counter() - started)

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
        cost = sum(part.cost for part in batch)
        with self._changed:
            lane.cost -= cost
            lane.learn(cost, seconds)
        self._watch(name, len(items), seconds)
        start = 0
        for part in batch:
            part.job.add(rows[start : start + len(part.items)])
            start += len(part.items)


def pace_of(work: Work, items: list[Any], tokens: int) -> float:
    """Return the seconds that work takes for each token of such items: of the best of three runs, after a first one."""
    work(items)
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        work(items)
        best = min(best, time.perf_counter() - started)
    return best / tokens


class _Job:
    """The items of one request with their costs, until when they are to be done, and the rows computed so far."""

    def __init__(self, items: list[tuple[Any, int]], deadline: float) -> None:
        self.items, self.deadline = items, deadline
        self.given_out = 0
        self.left = sum(cost for _, cost in items)  # Cost of the items that are in no batch yet
        self.future: Future[NDArray[np.float32]] = Future()
        self._rows: list[NDArray[np.float32]] = []

    @property
    def done(self) -> bool:
        """Whether no item is left to be given out."""
        return self.given_out == len(self.items)

    def give_out(self, room: int, count: bool) -> list[tuple[Any, int]]:
        """Give out the next items, at least one, until they number (`count`) or cost `room`."""
        start = self.given_out
        while not self.done and (room > 0 or self.given_out == start):
            cost = self.items[self.given_out][1]
            room -= 1 if count else cost
            self.left -= cost
            self.given_out += 1
        return self.items[start : self.given_out]

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add the rows of the next items."""
        self._rows.append(rows)
        if sum(map(len, self._rows)) == len(self.items):
            _settle(self.future, lambda: np.concatenate(self._rows))


def _due(job: _Job) -> float:
    return job.deadline


def _large(job: _Job) -> bool:
    return job.left > SMALL


class _Part:
    """The items of a job that are in one batch."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.items: list[tuple[Any, int]] = []

    @property
    def cost(self) -> int:
        return sum(cost for _, cost in self.items)


class _Lane:
    """Jobs that wait, whose turn it is first, with their total cost in tokens, and the pace of the work."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cost = 0
        self.pace = FIRST_PACE
        self._jobs: deque[_Job] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def room(self) -> int:
        """Tokens of a batch."""
        return max(AT_LEAST, min(LONG_AT_ONCE, round(LONG_SECONDS / self.pace)))

    def is_tight(self, beside: float) -> bool:
        """Tell whether a job would be late if it waited for `beside` seconds of other work."""
        now, ahead = time.monotonic() + beside, 0
        for job in sorted(self._jobs, key=_due):
            ahead += job.left
            if now + ahead * self.pace > job.deadline:
                return True
        return False

    def put(self, job: _Job) -> None:
        self._jobs.append(job)
        self.cost += job.left

    def take(self, room: int, count: bool = False, in_turn: bool = False) -> list[_Part]:
        """Take the next items, at least one, until they number (`count`) or cost `room`.

        Small jobs come first, whole; then each gets a share, in turn. With `in_turn` those due first get all.
        """
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self.drop(job)
        least = 1 if count else AT_LEAST
        waiting = sorted(self._jobs, key=_due if in_turn else _large)
        parts: dict[_Job, _Part] = {}
        while waiting and room > 0:
            share = room if in_turn else max(least, room // len(waiting))
            for job in waiting:
                if room > 0:
                    given = job.give_out(share if count or _large(job) else SMALL, count)
                    parts.setdefault(job, _Part(job)).items.extend(given)
                    room -= len(given) if count else sum(cost for _, cost in given)
            waiting = [job for job in waiting if not job.done]
        for job in parts:  # its turn is over
            self._jobs.remove(job)
            if not job.done:
                self._jobs.append(job)
        return list(parts.values())

    def drop(self, job: _Job) -> None:
        """Drop the items of a job that are in no batch yet."""
        self.cost -= job.left
        job.left = 0
        if job in self._jobs:
            self._jobs.remove(job)

    def learn(self, cost: int, seconds: float) -> None:
        """Note how long a batch took. A small one says how long a batch takes at least, and nothing of the pace."""
        pace = seconds / max(1, cost)
        if cost >= AT_LEAST or pace < self.pace:
            self.pace += LEARNING * (pace - self.pace)


def _settle(future: Future[Any], function: Callable[[], Any]) -> None:
    """Set a future to what a function returns or raises, unless it was cancelled."""
    with suppress(InvalidStateError):
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
