"""Ranks and measures against plain loops and worked examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.errors import PolyencodersError
from polyencoders.evaluation import measure_ranks, pessimistic_ranks

MEASURES = ["R@1", "R@3", "Success@2", "MRR", "MAP", "nDCG", "nDCG@3", "MRR@2", "MAP@3"]


def naive_ranks(scores, relevant):
    """Sort by score, wrong before right where equal, and read off the places."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i in relevant))
    return [place for place, i in enumerate(order, start=1) if i in relevant]


def naive_measure(name, ranks, depth=math.inf):
    """From the textbook."""
    family, _, cutoff = name.partition("@")
    count = len(ranks)
    k = min(int(cutoff) if cutoff else math.inf, depth)
    found = [rank for rank in ranks if rank <= k]
    if family == "R":
        return len(found) / count
    if family == "Success":
        return float(bool(found))
    if family == "MRR":
        return 1 / found[0] if found else 0
    if family == "MAP":
        return sum((i + 1) / rank for i, rank in enumerate(found)) / count
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(count, k) + 1))
    return sum(1 / math.log2(1 + rank) for rank in found) / ideal


@st.composite
def ranking(draw):
    n = draw(st.integers(1, 12))
    # Few distinct scores, so that most lists have ties, infinities among them.
    scores = draw(st.lists(st.sampled_from([-math.inf, -1.0, 0.0, -0.0, 0.5, math.inf]), min_size=n, max_size=n))
    relevant = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    return scores, relevant


@given(st.lists(ranking(), min_size=1, max_size=5))
def test_ranks_and_measures_equal_plain_loops(rankings):
    ranks = [pessimistic_ranks(np.array(scores), relevant) for scores, relevant in rankings]
    expected = [naive_ranks(scores, relevant) for scores, relevant in rankings]
    assert [found.tolist() for found in ranks] == expected
    values = measure_ranks(ranks, MEASURES)
    for name in MEASURES:
        np.testing.assert_allclose(values[name], [naive_measure(name, found) for found in expected], atol=1e-6)


@given(ranking(), st.randoms())
def test_order_of_documents_does_not_matter(one, random):
    scores, relevant = one
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = pessimistic_ranks(np.array([scores[i] for i in order]), [order.index(i) for i in relevant])
    assert shuffled.tolist() == pessimistic_ranks(np.array(scores), relevant).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_a_model_that_scores_all_alike_gets_nothing(dtype):
    for right in range(20):
        assert pessimistic_ranks(np.zeros(20, dtype), [right]).tolist() == [20]


def test_worked_example():
    """Right answers at 1, 3 and 6, as trec_eval's documentation computes them."""
    values = measure_ranks([np.array([1, 3, 6])], ["MAP", "MRR", "R@5", "nDCG"])
    assert values["MAP"][0] == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert values["MRR"][0] == 1
    assert values["R@5"][0] == pytest.approx(2 / 3)
    assert values["nDCG"][0] == pytest.approx((1 + 0.5 + 1 / math.log2(7)) / (1 + 1 / math.log2(3) + 0.5))


def test_hit_rate_with_one_right_answer():
    assert measure_ranks([np.array([rank]) for rank in (1, 2, 3)], ["R@2"])["R@2"].tolist() == [1, 1, 0]


def test_depth():
    ranks = [np.array([5]), np.array([6]), np.array([2, 900])]
    values = measure_ranks(ranks, ["MRR", "MAP", "nDCG"], depth=5)
    for name, per_query in values.items():
        np.testing.assert_allclose(per_query, [naive_measure(name, found, depth=5) for found in ranks], atol=1e-6)
    assert values["MRR"].tolist() == pytest.approx([1 / 5, 0, 1 / 2])
    assert measure_ranks(ranks, ["R@1000"], depth=5)["R@1000"].tolist() == [1, 1, 1], "a larger cut-off goes deeper"
    assert measure_ranks([np.array([70_000])], ["MRR"])["MRR"] == pytest.approx(1 / 70_000), "exact without a depth"


def test_more_queries_than_are_handed_over_at_once():
    ranks = [np.array([i % 7 + 1]) for i in range(1500)]
    np.testing.assert_allclose(measure_ranks(ranks, ["MRR"])["MRR"], [1 / (i % 7 + 1) for i in range(1500)])


def test_the_same_measure_by_two_names():
    values = measure_ranks([np.array([4])], ["MRR", "RR", "AP"])
    assert {name: float(value[0]) for name, value in values.items()} == {"MRR": 0.25, "RR": 0.25, "AP": 0.25}


def test_nan_is_refused():
    with pytest.raises(PolyencodersError, match="2 of 3 scores are NaN, which cannot be ranked"):
        pessimistic_ranks(np.array([1.0, np.nan, np.nan]), [0])


@pytest.mark.parametrize("name", ["R", "R@0", "R@x", "P@1", "Judged@10", "Bpref", "mrr", "", "R@1 ", "R(rel=2)@1"])
def test_unknown_measures_are_refused(name):
    with pytest.raises(PolyencodersError, match=r"unknown measure '.*': expected one of R@k, Success@k, MRR"):
        measure_ranks([np.array([1])], ["MRR", name])


def test_measures_named_with_their_candidates_are_explained():
    with pytest.raises(PolyencodersError, match="write 'R@1', the task knows among how many"):
        measure_ranks([np.array([1])], ["R@1/20"])
    with pytest.raises(PolyencodersError, match="no measures"):
        measure_ranks([np.array([1])], [])
