"""What many ask at once is answered as if each had asked alone, fairly and in time; what cannot be is refused."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyencoders.serving import batching
from polyencoders.serving.batching import LONG_AT_ONCE, LONG_SECONDS, SHORT_AT_ONCE, BusyError, Worker, pace_of


def lengths(items):
    return np.array([[len(item), 1] for item in items], dtype=np.float32)


def ask(worker, lane, items):
    """Submit items that cost a token for each character."""
    return worker.submit(lane, items, [max(1, len(item)) for item in items])


@pytest.fixture
def worker():
    with_batches = Worker(lengths, lengths)
    yield with_batches
    with_batches.close()


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(["short", "long"]), st.lists(st.text(max_size=3000), min_size=1, max_size=70)),
        max_size=20,
    )
)
def test_every_job_gets_its_own_rows(jobs):
    worker = Worker(lengths, lengths, wait=1e9)
    futures = [(items, ask(worker, lane, items)) for lane, items in jobs]
    worker.close()  # works off what waits
    for items, future in futures:
        np.testing.assert_array_equal(future.result(0), lengths(items))
    assert worker.backlog == 0


def blocked(wait=60.0):
    """A worker whose first long batch waits until it is let go, and its batches."""
    go, begun, batches = threading.Event(), threading.Event(), []

    def long(items):
        batches.append(("long", items))
        begun.set()
        assert go.wait(10)
        return lengths(items)

    def short(items):
        batches.append(("short", items))
        return lengths(items)

    return Worker(short, long, wait), go, begun, batches


def test_short_work_waits_for_a_slice_and_is_batched():
    worker, go, begun, batches = blocked()
    slow = ask(worker, "long", ["x" * 250] * 200)
    begun.wait(10)
    quick = [ask(worker, "short", ["?"]) for _ in range(SHORT_AT_ONCE + 3)]
    go.set()
    assert all(future.result(10).tolist() == [[1, 1]] for future in quick)
    assert len(slow.result(10)) == 200
    assert [lane for lane, _ in batches[:4]] == ["long", "short", "long", "short"]
    assert [len(items) for lane, items in batches if lane == "short"] == [SHORT_AT_ONCE, 3]
    assert max(len(items) for lane, items in batches if lane == "long") < LONG_AT_ONCE / 250 + 1
    worker.close()


def test_three_documents_are_in_the_next_slice_whatever_waits():
    worker, go, begun, batches = blocked()
    many = [ask(worker, "long", [letter * 200] * 100) for letter in "abcd"]
    begun.wait(10)
    few = ask(worker, "long", ["z" * 200] * 3)
    go.set()
    few.result(10)
    (holding,) = [place for place, (_, items) in enumerate(batches) if "z" * 200 in items]
    assert holding == 1
    assert [future.result(10)[0].tolist() for future in many] == [[200, 1]] * 4
    worker.close()


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(300, 5000))
def test_a_slice_is_shared(sizes, room):
    lane = batching._Lane(lengths)
    jobs = [batching._Job([("x", 100)] * size, 0.0) for size in sizes]
    for job in jobs:
        lane.put(job)
    while len(lane):
        before = {id(job): job.left for job in jobs}
        lane.take(room)
        given = [before[id(job)] - job.left for job in jobs if job.left]
        assert not given or max(given) <= max(batching.SMALL, room / len(given)) + 200, "nobody gets more than a share"


def test_the_same_work_is_admitted_however_it_is_split():
    for parts in (1, 8):
        worker, go, begun, _ = blocked(wait=10)
        worker._lanes["long"].pace = 1e-3
        ask(worker, "long", ["x"])
        begun.wait(10)
        asked = [
            ask(worker, "long", ["x" * 8_000]) if parts == 1 else ask(worker, "long", ["x" * 1_000])
            for _ in range(parts)
        ]
        with pytest.raises(BusyError) as error:
            ask(worker, "long", ["x" * 1_900])
        assert error.value.retry_after == 2
        go.set()
        assert all(len(future.result(10)) == 1 for future in asked)
        worker.close()


def test_what_cannot_be_done_in_time_is_refused_also_alone_and_measured():
    worker = Worker(lengths, lengths, wait=1, paces={"long": 1.0})
    with pytest.raises(BusyError, match=r"takes about 3000 s.*--max-wait"):
        ask(worker, "long", ["x" * 300] * 10)
    for _ in range(50):  # asked again and again, the pace is known better and better
        try:
            found = ask(worker, "long", ["x" * 300] * 10).result(10)
            break
        except BusyError:
            worker.call(lambda: None).result(10)
    assert len(found) == 10
    worker.close()


def test_what_is_admitted_is_done_in_time_whatever_comes_later():
    """A stream of small requests takes its share until the large one would be late, and then waits."""
    done = []

    def slow(items):
        time.sleep(5e-5 * sum(map(len, items)))
        return lengths(items)

    worker = Worker(lengths, slow, wait=1.0, paces={"long": 5e-5})
    large = ask(worker, "long", ["x" * 100] * 100)  # half a second
    started = time.monotonic()
    large.add_done_callback(lambda _: done.append(time.monotonic() - started))
    while not large.done():
        try:
            ask(worker, "long", ["y" * 100] * 4)
        except BusyError:
            time.sleep(0.001)
    assert done[0] < 3, "a sleep may be longer than it should be, but not always"
    worker.close()


def test_a_lane_is_tight_when_somebody_would_be_late():
    lane = batching._Lane(lengths)
    lane.pace = 1e-3
    lane.put(batching._Job([("x", 1000)], time.monotonic() + 100))
    lane.put(batching._Job([("x", 1000)], time.monotonic() + 2.5))  # due first, and done after a second
    assert not lane.is_tight(1.25)
    assert lane.is_tight(1.75)


def test_slow_work_is_cut_into_smaller_slices():
    sizes = []

    def slow(items):
        characters = sum(map(len, items))
        sizes.append(characters)
        time.sleep(3e-4 * characters)  # or longer: then slices are smaller still
        return lengths(items)

    worker = Worker(lengths, slow, wait=60, paces={"long": 1e-4})
    ask(worker, "long", ["x" * 50] * 100).result(30)
    worker.close()
    assert sizes[0] == LONG_SECONDS / 1e-4, "it cannot be known at first"
    assert sizes[1] < 0.8 * sizes[0]


def test_small_batches_do_not_spoil_the_pace():
    lane = batching._Lane(lengths)
    lane.pace = 1e-4
    for _ in range(100):
        lane.learn(10, 0.01)
    assert lane.pace == 1e-4
    lane.learn(1000, 0.2)
    assert lane.pace == pytest.approx(1.2e-4)


def test_the_first_requests_are_refused_as_rightly_as_later_ones():
    go = threading.Event()
    pace = pace_of(lambda items: time.sleep(0.05) or lengths(items), ["x" * 68], 100)
    assert pace >= 0.05 / 100
    worker = Worker(lengths, lambda items: go.wait(10) and lengths(items), wait=2, paces={"long": pace})
    ask(worker, "long", ["x" * 2000])  # a second, at least
    with pytest.raises(BusyError):
        ask(worker, "long", ["x" * 3000])
    go.set()
    worker.close()


def test_what_was_cancelled_is_not_waited_for():
    worker, go, begun, _ = blocked(wait=60)
    first = worker.submit("long", ["x"] * 10_000, [20] * 10_000)  # 40 s
    begun.wait(10)
    with pytest.raises(BusyError, match=r"come back in \d+ s"):
        worker.submit("long", ["x"] * 10_000, [20] * 10_000)
    first.cancel()
    go.set()
    deadline = time.time() + 10
    while worker.backlog and time.time() < deadline:
        time.sleep(0.01)
    assert worker.backlog == 0
    assert ask(worker, "short", ["?"]).result(10).tolist() == [[1, 1]]
    worker.close()
    with pytest.raises(BusyError):
        ask(worker, "short", ["?"])


def test_one_requests_trouble_is_not_anothers():
    def picky(items):
        if "bad" in items:
            raise ValueError("bad")
        return lengths(items)

    worker = Worker(picky, picky, wait=60)
    for lane in ("short", "long"):
        futures = [ask(worker, lane, [word]) for word in ("good", "bad", "fine")]
        assert futures[0].result(10).tolist() == [[4, 1]]
        with pytest.raises(ValueError, match="bad"):
            futures[1].result(10)
        assert futures[2].result(10).tolist() == [[4, 1]]
    in_slices = ask(worker, "long", ["x" * 500] * 20 + ["bad"] + ["x" * 500] * 20)
    with pytest.raises(ValueError, match="bad"):
        in_slices.result(10)
    assert worker.backlog == 0
    worker.close()


def test_calls_run_in_the_same_thread(worker):
    assert worker.call(lambda: threading.current_thread().name).result(10) == "model"
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(10)
