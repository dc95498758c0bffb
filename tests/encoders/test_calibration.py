"""The fit against a maximum of the likelihood that is found another way, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.encoders.calibration import CALIBRATION, Calibration
from polyencoders.errors import DataError, ModelError


def drawn(seed, queries=60, candidates=8, slope=2.0, offset=-1.5, scale=1.0, shift=0.0):
    """Candidates that are right with a known probability."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(queries, candidates))
    right = generator.random((queries, candidates)) < 1 / (1 + np.exp(-(slope * x + offset)))
    return list(scale * x + shift), list(right)


def best_by_bisection(scores, right):
    """The maximum of Platt's likelihood, which is concave: bisection on the slope, and within it on the offset."""
    x, y = np.concatenate(scores), np.concatenate(right)
    yes, no = int(y.sum()), int((~y).sum())
    wanted = np.where(y, (yes + 1) / (yes + 2), 1 / (no + 2))
    spread, middle = x.std(), x.mean()
    x = (x - middle) / spread

    def root(slope_of, low=-60.0, high=60.0):
        for _ in range(80):
            between = (low + high) / 2
            low, high = (between, high) if slope_of(between) > 0 else (low, between)
        return (low + high) / 2

    def p(a, b):
        return 1 / (1 + np.exp(-np.clip(a * x + b, -500, 500)))

    def offset(a):
        return root(lambda b: (wanted - p(a, b)).sum())

    a = root(lambda a: (x * (wanted - p(a, offset(a)))).sum())
    return a / spread, offset(a) - a * middle / spread


@given(st.integers(0, 1000), st.sampled_from([1.0, 0.01, 30.0]), st.sampled_from([0.0, -11.0, 500.0]))
def test_it_is_the_maximum_of_the_likelihood(seed, scale, shift):
    scores, right = drawn(seed, scale=scale, shift=shift)
    fitted = Calibration.fit(scores, right)
    a, b = best_by_bisection(scores, right)
    assert fitted.a == pytest.approx(a, rel=1e-6)
    assert fitted.b == pytest.approx(b, rel=1e-6, abs=1e-6)


def test_it_finds_the_probabilities_that_were_drawn():
    fitted = Calibration.fit(*drawn(0, queries=20_000))
    assert (fitted.a, fitted.b) == (pytest.approx(2.0, abs=0.05), pytest.approx(-1.5, abs=0.05))
    assert fitted.candidates == 8


def test_scores_that_part_right_from_wrong_stay_finite():
    scores, right = [np.array([900.0, -900.0])] * 40, [np.array([True, False])] * 40
    fitted = Calibration.fit(scores, right)
    assert math.isfinite(fitted.a)
    assert fitted.probability([1e6, -1e6]).tolist() == pytest.approx([1, 0])
    assert 0.9 < fitted.probability(900.0) < 1


def test_what_says_nothing_is_refused():
    scores, right = drawn(0)
    with pytest.raises(DataError, match="19 queries have a right answer"):
        Calibration.fit(scores[:19], [np.ones(8, dtype=bool)] * 19)
    with pytest.raises(DataError, match="not more often right"):
        Calibration.fit([-some for some in scores], right)
    with pytest.raises(DataError, match="not more often right"):
        Calibration.fit([np.zeros(8)] * 60, right)


def test_it_is_kept_with_a_model(tmp_path):
    assert Calibration.read(tmp_path) is None
    fitted = Calibration.fit(*drawn(1))
    fitted.write(tmp_path)
    assert Calibration.read(tmp_path) == fitted
    (tmp_path / CALIBRATION).write_text('{"a": 1')
    with pytest.raises(ModelError, match="is damaged"):
        Calibration.read(tmp_path)
