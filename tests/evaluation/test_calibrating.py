"""Probabilities are confirmed on queries that did not fit them, or refused."""

import numpy as np
import pytest

from polyencoders.errors import DataError
from polyencoders.evaluation import CandidateTask
from polyencoders.evaluation.calibrating import Marked, calibrate, confirmed, reliability


def marked(seed, slope, queries=200):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(queries, 10))
    right = generator.random((queries, 10)) < 1 / (1 + np.exp(-(slope * x - 1)))
    return Marked(list(x), list(right))


def test_they_say_what_is_the_case():
    fitted, bins = confirmed(marked(0, 2.0), marked(1, 2.0, queries=3000))
    assert fitted.a == pytest.approx(2.0, abs=0.1)
    assert sum(one.documents for one in bins) == 30_000
    for one in bins:
        assert one.least <= one.said <= one.most
        assert one.right == pytest.approx(one.said, abs=0.06)


def test_what_other_queries_do_not_confirm_is_refused():
    with pytest.raises(DataError, match="do not confirm"):
        confirmed(marked(0, 2.0), marked(1, -2.0))


def test_an_empty_bin_has_no_figures():
    fitted, _ = confirmed(marked(0, 2.0), marked(1, 2.0))
    some = reliability(fitted, Marked([np.array([-100.0])], [np.array([False])]))
    assert some[0].documents == 1
    assert np.isnan(some[-1].said)


def test_of_a_task_the_best_candidates_count():
    class Numbers:
        def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
            return [np.array([float(text) for text in texts]) for texts in documents]

    generator = np.random.default_rng(0)
    lists = [[str(number) for number in generator.permutation(30)] for _ in range(60)]
    right = [[texts.index(str(29 - place % 3))] for place, texts in enumerate(lists)]
    fitted, bins = calibrate(Numbers(), CandidateTask(["?"] * 60, lists, right))
    assert (fitted.queries, fitted.candidates) == (60, 20)
    assert sum(one.documents for one in bins) == 30 * 20
    assert fitted.probability(28.0) == pytest.approx(1 / 3, abs=0.1)
    assert fitted.probability(10.0) < 0.01
