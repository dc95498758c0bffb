"""Documents are encoded in the fastest of a few ways, which the first of them tell."""

import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyencoders import load
from polyencoders.runtime import ways


class Clock:
    """Time that passes only while a graph computes: a second for every batch, or for `at_once` of them."""

    def __init__(self, slow):
        self.now, self.slow = 0.0, slow

    def perf_counter(self):
        return self.now

    def run(self, graph, places):
        self.now += self.slow[graph]
        return np.array(places, dtype=np.float32)


@pytest.mark.parametrize(
    ("slow", "best"),
    [
        ({"all": 9.0, "each": 1.0}, "2 batches of 512 tokens at a time"),
        ({"all": 1.0, "each": 9.0}, "one batch of 1,024 tokens at a time"),
    ],
)
def test_the_fastest_way_is_kept_and_every_text_is_encoded_once(slow, best, monkeypatch, on_threads):
    on_threads(2)
    clock = Clock(slow)
    monkeypatch.setattr(ways, "time", types.SimpleNamespace(perf_counter=clock.perf_counter))
    opened = []
    chosen = ways.Ways("all", lambda number: opened.append(number) or "each")
    lengths = [100] * 300
    places = [place for some, found in chosen.encode(lengths, clock.run) for place in (*some, *found.tolist())]
    assert opened == [2]
    assert sorted(places) == sorted([*range(300), *range(300)])
    assert chosen.said.startswith(best)
    said = chosen.said
    assert sum(len(some) for some, _ in chosen.encode(lengths, clock.run)) == 300
    assert chosen.said == said


def test_one_thread_has_one_way(on_threads):
    on_threads(1)
    chosen = ways.Ways("all", pytest.fail)
    assert len(list(chosen.encode([400] * 3, lambda graph, places: np.zeros(len(places))))) == 3
    assert chosen.said == ""


def test_a_thread_goes_on_when_another_has_chosen_meanwhile(on_threads):
    on_threads(2)
    chosen = ways.Ways("all", lambda number: "each")
    begun, goes_on = threading.Event(), threading.Event()

    def slow(graph, places):
        begun.set()
        assert goes_on.wait(60)
        return np.array(places, dtype=np.float32)

    def encoded(run):
        return sorted(place for some, _ in chosen.encode([100] * 600, run) for place in some)

    with ThreadPoolExecutor(1) as other:
        late = other.submit(encoded, slow)
        assert begun.wait(60)
        assert encoded(lambda graph, places: np.array(places, dtype=np.float32)) == list(range(600))
        assert chosen.said
        goes_on.set()
        assert late.result() == list(range(600))


def test_documents_in_every_way_are_the_same(exports, on_threads):
    on_threads(2)
    model = load(exports("bi"))
    texts = [f"{'word ' * (number % 40)}{number}" for number in range(1_200)]
    vectors = model.encode_documents(texts)
    assert "tokens a second in a trial (" in model.trial
    few = model.encode_documents(texts[:50])
    np.testing.assert_allclose(vectors[:50], few, atol=1e-6)
    np.testing.assert_allclose(model.encode_documents(texts)[:50], few, atol=1e-6)
