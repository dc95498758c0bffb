"""The fused score against its definition, what a budget buys, and documents that cannot be read."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.encoders import Reranker
from polyencoders.encoders import reranking as module
from polyencoders.encoders.reranking import fused
from polyencoders.errors import ModelError, RefusalError

TEXTS = [f"document {number}" for number in range(30)]
FIRST = np.linspace(1, 0, 30)
numbers = st.floats(-100, 100, width=32)


class Scorer:
    """Scores a document by its number, and remembers what it read."""

    def __init__(self, clock=None, cost=0.01, bad=None):
        self.read, self.clock, self.cost, self.bad = [], clock, cost, bad or {}

    def score_pairs(self, pairs, batch_size=32):
        texts = [text for _, text in pairs]
        if any(self.bad.get(text) == "error" for text in texts):
            raise RuntimeError("this one cannot be read")
        self.read += texts
        if self.clock is not None:
            self.clock.now += self.cost * len(pairs)
        return np.array([np.nan if text in self.bad else float(text.split()[1]) for text in texts])


class Clock:
    now = 0.0

    def perf_counter(self):
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock that only work moves."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@given(st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=30), st.none() | st.floats(0, 10))
def test_the_fused_score_is_its_definition(rows, weight):
    first, second, was_read = (np.array(column) for column in zip(*rows, strict=True))
    given = np.where(was_read, second, np.nan)
    got = fused(first.astype(float), given.astype(float), weight)
    read = [place for place in range(len(rows)) if was_read[place]]
    if not read:
        assert (got == first).all()
        return
    lowest = min(second[place] for place in read)
    if weight is None:
        spread = float(np.std([second[place] for place in read]))
        weight = float(np.std([first[place] for place in read])) / spread if spread > 0 else 0.0
    expected = [first[i] + weight * (second[i] if was_read[i] else lowest) for i in range(len(rows))]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(st.lists(numbers, min_size=2, max_size=30), st.integers(1, 30), st.none() | st.floats(0, 10), st.integers(0, 99))
def test_what_was_read_stays_before_what_was_not(scores, top, weight, seed):
    first = np.sort(np.array(scores, dtype=float))[::-1]
    second = np.random.default_rng(seed).normal(size=len(first))
    second[top:] = np.nan
    got = fused(first, second, weight)
    assert got[:top].min(initial=np.inf) >= got[top:].max(initial=-np.inf)
    assert (np.diff(got[top:]) <= 0).all(), "the others keep their order"


def test_it_reads_the_best_whatever_their_order():
    scorer, order = Scorer(), np.random.default_rng(0).permutation(30)
    texts = [TEXTS[place] for place in order]
    found = Reranker(scorer, top=5, weight=0.1).rerank("Tea?", texts, FIRST[order])
    assert sorted(scorer.read) == sorted(TEXTS[:5])
    assert {texts[place] for place in np.flatnonzero(found.read)} == set(TEXTS[:5])
    expected = [FIRST[place] + 0.1 * (place if place < 5 else 0) for place in order]
    np.testing.assert_allclose(found.scores, expected)


def test_a_pair_is_read_once():
    scorer = Scorer()
    reranker = Reranker(scorer)
    once = reranker.rerank(["Hello!", "Tea?"], TEXTS, FIRST)
    again = reranker.but(top=10, weight=2.0).rerank(["Hello!", "Tea?"], TEXTS, FIRST)
    assert scorer.read == TEXTS[:20]
    assert (int(once.read.sum()), int(again.read.sum())) == (20, 10)
    reranker.rerank("Hello! Tea?", TEXTS, FIRST)
    assert len(scorer.read) == 40, "another query is another pair"


def test_the_oldest_scores_are_dropped(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 10)
    scorer = Scorer()
    reranker = Reranker(scorer, top=10)
    for number in (0, 10, 0):
        reranker.read("Tea?", TEXTS[number : number + 10])
    assert scorer.read == [*TEXTS[:20], *TEXTS[:10]]


def test_a_budget_of_nothing_reads_nothing(clock):
    scorer = Scorer(clock)
    found = Reranker(scorer, budget=0).rerank("Tea?", TEXTS, FIRST)
    assert not scorer.read
    assert not found.read.any()
    assert (found.scores == FIRST).all()


@pytest.mark.parametrize(("budget", "number"), [(45, 4), (125, 12), (10_000, 20)])
def test_as_many_are_read_as_fit(clock, budget, number):
    reranker = Reranker(Scorer(clock), budget=budget, weight=1.0)
    began = clock.now + 2 * 0.01  # The first call is not counted
    found = reranker.rerank("Tea?", TEXTS, FIRST)
    assert abs(int(found.read.sum()) - number) <= 1
    assert clock.now - began <= budget / 1000
    assert found.read[: int(found.read.sum())].all(), "the best first"


def test_a_pace_that_is_too_slow_is_not_believed_for_ever(clock):
    scorer = Scorer(clock, cost=1.0)
    reranker = Reranker(scorer, budget=50)
    assert not reranker.rerank("Tea?", TEXTS, FIRST).read.any()
    scorer.cost = 0.001  # It was a cold start
    read = [int(reranker.rerank(f"{number}?", TEXTS, FIRST).read.sum()) for number in range(60)]
    assert read[0] == 0
    assert read[-1] == 20


@pytest.mark.parametrize("how", ["error", "NaN", "no text"])
def test_one_bad_document_does_not_condemn_the_rest(how, caplog):
    texts = [None if how == "no text" and number == 3 else text for number, text in enumerate(TEXTS)]
    reranker = Reranker(Scorer(bad={TEXTS[3]: how}), weight=1.0)
    with caplog.at_level(logging.WARNING):
        found = reranker.rerank("Tea?", texts, FIRST)
    assert np.flatnonzero(~found.read).tolist() == [3, *range(20, 30)]
    assert found.scores[3] == FIRST[3], "it counts as the lowest that was read"
    assert ("could not read a document of 10 characters" in caplog.text) == (how != "no text")


def test_an_error_with_every_document_is_an_error():
    with pytest.raises(RuntimeError, match="cannot be read"):
        Reranker(Scorer(bad=dict.fromkeys(TEXTS, "error"))).rerank("Tea?", TEXTS, FIRST)


def test_a_refusal_is_no_fault_of_a_document(caplog):
    asked = []

    class Busy:
        def score_pairs(self, pairs, batch_size=32):
            asked.append(len(pairs))
            raise RefusalError("come back in 3 s")

    with pytest.raises(RefusalError, match="in 3 s"):
        Reranker(Busy()).rerank("Tea?", TEXTS, FIRST)
    assert asked == [20], "they are not asked for one by one"
    assert not caplog.records


def test_a_real_model_is_read_as_it_scores(built):
    model, texts = built("cross"), ["Tea is served at four.", "Pancakes.", "It rains."]
    first = np.array([0.3, 0.2, 0.1])
    found = Reranker(model, weight=0.5).rerank(["Hello!", "Breakfast?"], texts, first)
    expected = model.score_pairs([(["Hello!", "Breakfast?"], text) for text in texts])
    np.testing.assert_allclose(found.scores, first + 0.5 * expected, atol=1e-5)


def test_what_makes_no_sense_is_refused(built):
    with pytest.raises(ModelError, match="BiEncoder does not read query and document together"):
        Reranker(built("bi"))
    for settings in ({"top": 0}, {"top": True}, {"weight": -1}, {"weight": float("inf")}, {"budget": -1}):
        with pytest.raises(ValueError, match="at least"):
            Reranker(Scorer(), **settings)
