"""What many ask at once is answered as if each had asked alone; more than can be done soon is refused."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyencoders.serving.batching import LONG_AT_ONCE, LONG_SECONDS, SHORT_AT_ONCE, BusyError, Worker, pace_of


def lengths(items):
    return np.array([[len(item), 1] for item in items], dtype=np.float32)


@pytest.fixture
def worker():
    with_batches = Worker(lengths, lengths)
    yield with_batches
    with_batches.close()


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from(["short", "long"]), st.lists(st.text(max_size=9000), min_size=1, max_size=70)),
        max_size=20,
    )
)
def test_every_job_gets_its_own_rows(jobs):
    worker = Worker(lengths, lengths, wait=1e9)
    futures = [(items, worker.submit(lane, items)) for lane, items in jobs]
    worker.close()  # works off what waits
    for items, future in futures:
        np.testing.assert_array_equal(future.result(0), lengths(items))
    assert worker.backlog == 0


def blocked(wait=10.0):
    """A worker whose first long batch waits until it is let go, and the sizes of its batches."""
    go, begun, batches = threading.Event(), threading.Event(), []

    def long(items):
        batches.append(("long", len(items)))
        begun.set()
        assert go.wait(10)
        return lengths(items)

    def short(items):
        batches.append(("short", len(items)))
        return lengths(items)

    return Worker(short, long, wait), go, begun, batches


def test_short_work_waits_for_a_slice_and_is_batched():
    worker, go, begun, batches = blocked(wait=60)
    slow = worker.submit("long", ["x" * 1000] * 200)
    begun.wait(10)
    quick = [worker.submit("short", ["?"]) for _ in range(SHORT_AT_ONCE + 3)]
    go.set()
    assert all(future.result(10).tolist() == [[1, 1]] for future in quick)
    assert len(slow.result(10)) == 200
    assert [lane for lane, _ in batches[:4]] == ["long", "short", "long", "short"]
    assert [size for lane, size in batches if lane == "short"] == [SHORT_AT_ONCE, 3]
    assert max(size for lane, size in batches if lane == "long") <= LONG_AT_ONCE / 1000
    worker.close()


def test_slow_work_is_cut_into_smaller_slices():
    sizes = []

    def slow(items):
        characters = sum(map(len, items))
        sizes.append(characters)
        time.sleep(2e-4 * characters)  # or longer: then slices are smaller still
        return lengths(items)

    worker = Worker(lengths, slow, wait=60)
    worker.submit("long", ["x" * 50] * 250).result(30)
    worker.close()
    assert sizes[0] > 2 * LONG_SECONDS / 2e-4, "it cannot be known at first"
    assert sizes[-2] < 2 * LONG_SECONDS / 2e-4


def test_the_first_requests_are_refused_as_rightly_as_later_ones():
    go = threading.Event()
    pace = pace_of(lambda items: time.sleep(0.05) or lengths(items), ["x" * 68])
    assert pace >= 0.05 / 100
    worker = Worker(lengths, lambda items: go.wait(10) and lengths(items), wait=1, paces={"long": pace})
    worker.submit("long", ["x" * 2000])  # a second, at least
    with pytest.raises(BusyError):
        worker.submit("long", ["x"])
    go.set()
    worker.close()


def test_more_than_can_be_done_soon_is_refused_and_says_when_to_come_back():
    worker, go, begun, _ = blocked()
    first = worker.submit("long", ["x" * 2000] * 10_000)  # nothing waits: any size is taken
    begun.wait(10)
    with pytest.raises(BusyError, match=r"come back in \d+ s") as error:
        worker.submit("short", ["?"])
    assert error.value.retry_after >= 1
    first.cancel()
    go.set()
    deadline = time.time() + 10
    while worker.backlog and time.time() < deadline:
        time.sleep(0.01)
    assert worker.backlog == 0, "what was cancelled is not waited for"
    assert worker.submit("short", ["?"]).result(10).tolist() == [[1, 1]]
    worker.close()
    with pytest.raises(BusyError):
        worker.submit("short", ["?"])


def test_one_requests_trouble_is_not_anothers():
    def picky(items):
        if "bad" in items:
            raise ValueError("bad")
        return lengths(items)

    worker = Worker(picky, picky)
    for lane in ("short", "long"):
        futures = [worker.submit(lane, [word]) for word in ("good", "bad", "fine")]
        assert futures[0].result(10).tolist() == [[4, 1]]
        with pytest.raises(ValueError, match="bad"):
            futures[1].result(10)
        assert futures[2].result(10).tolist() == [[4, 1]]
    in_slices = worker.submit("long", ["x" * 2000] * 20 + ["bad"] + ["x" * 2000] * 20)
    with pytest.raises(ValueError, match="bad"):
        in_slices.result(10)
    assert worker.backlog == 0
    worker.close()


def test_calls_run_in_the_same_thread(worker):
    assert worker.call(lambda: threading.current_thread().name).result(10) == "model"
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(10)
