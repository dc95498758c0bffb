"""Confidence intervals: known theory, edges, and what pairing gains."""

import math

import numpy as np
import pytest

from polyencoders.errors import DataError
from polyencoders.evaluation import bootstrap_interval, paired_difference

RNG = np.random.default_rng(0)


def test_close_to_the_normal_interval():
    values = RNG.normal(5, 2, size=4000)
    interval = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_covers_the_truth_about_as_often_as_it_says():
    inside = [
        interval.low <= 0.4 <= interval.high
        for interval in (bootstrap_interval(RNG.random(100) < 0.4) for _ in range(200))
    ]
    assert 0.88 < np.mean(inside) <= 1


def test_seeded():
    values = RNG.random(100)
    assert bootstrap_interval(values) == bootstrap_interval(list(values))
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_edges():
    assert bootstrap_interval([1.0] * 50) == bootstrap_interval([1.0, 1.0])
    same = bootstrap_interval([1.0] * 50)
    assert (same.mean, same.low, same.high) == (1, 1, 1)
    one = bootstrap_interval([0.25])
    assert one.mean == 0.25
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert str(same) == "1.000 [1.000, 1.000]"


@pytest.mark.parametrize(
    ("values", "message"),
    [([], r"shape \(0,\)"), ([[1.0]], r"shape \(1, 1\)"), ([1, np.nan, np.inf], "2 of 3 values are not finite")],
)
def test_refuses(values, message):
    with pytest.raises(DataError, match=message):
        bootstrap_interval(values)


def test_pairing_sees_what_separate_intervals_do_not():
    hardness = RNG.random(500)
    better, worse = hardness + 0.01 + RNG.normal(0, 0.02, 500), hardness
    difference = paired_difference(better, worse)
    assert 0 < difference.low < 0.01 < difference.high
    assert bootstrap_interval(better).low < bootstrap_interval(worse).high
    same = paired_difference(worse, worse)
    assert (same.low, same.high) == (0, 0)
    with pytest.raises(DataError, match="expected the same queries for both"):
        paired_difference([1, 2], [1])
