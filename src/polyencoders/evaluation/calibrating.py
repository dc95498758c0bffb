"""Probabilities for a model's scores: fitted on one part of held-out queries, confirmed on another."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.calibration import Calibration
from polyencoders.encoders.reranking import TOP
from polyencoders.errors import DataError
from polyencoders.evaluation.ranking import task_scores
from polyencoders.evaluation.tasks import Task

EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 1.0)


class Marked(NamedTuple):
    """The candidates of some queries: their scores, and which of them are right."""

    scores: list[NDArray[np.float64]]
    right: list[NDArray[np.bool_]]

    def of(self, places: Sequence[int]) -> "Marked":
        """Return some of the queries."""
        return Marked([self.scores[place] for place in places], [self.right[place] for place in places])


class Bin(NamedTuple):
    """Documents whose probabilities lie between two numbers."""

    least: float
    most: float
    documents: int
    said: float  # The mean of their probabilities; NaN where there are none
    right: float  # The fraction that is right


def calibrate(model: Any, task: Task, seed: int = 0) -> tuple[Calibration, list[Bin]]:
    """Fit probabilities for the best candidates of each query.

    Parameters
    ----------
    model, task
        As for `evaluate`; of each query the best 20 documents count, or its whole list where it is shorter.
    seed
        Of the halves into which the queries fall: one fits, the other confirms.

    Returns
    -------
    Calibration, list of Bin
        The fit to all queries; and how well the fit to half of them did on the other half.

    Raises
    ------
    DataError
        There are too few queries, or the other half does not confirm it.
    """
    marked = Marked([], [])
    for scores, relevant in zip(task_scores(model, task), task.relevant, strict=True):
        best = np.argsort(-scores, kind="stable")[:TOP]
        marked.scores.append(scores[best].astype(np.float64))
        marked.right.append(np.isin(best, list(relevant)))
    order = np.random.default_rng(seed).permutation(len(marked.scores)).tolist()
    return confirmed(marked.of(order[::2]), marked.of(order[1::2]))


def confirmed(fitting: Marked, deciding: Marked) -> tuple[Calibration, list[Bin]]:
    """Fit to some queries, and ask others whether it says more than how often any candidate is right.

    Returns the fit to all of them, and its probabilities for the others as fitted without them. Raises a DataError
    where it is not confirmed.
    """
    fitted = Calibration.fit(*fitting)
    is_right = np.concatenate(deciding.right)
    often = np.clip(np.concatenate(fitting.right).mean(), 1e-6, 1 - 1e-6)
    base = -float(np.where(is_right, np.log(often), np.log1p(-often)).sum())
    if not fitted.loss(np.concatenate(deciding.scores), is_right) < base:
        raise DataError("held-out queries do not confirm the probabilities: they say no more than one number for all")
    whole = Calibration.fit([*fitting.scores, *deciding.scores], [*fitting.right, *deciding.right])
    return whole, reliability(fitted, deciding)


def reliability(calibration: Calibration, marked: Marked) -> list[Bin]:
    """Return what is said and what is right, for documents of about the same probability."""
    said, is_right = calibration.probability(np.concatenate(marked.scores)), np.concatenate(marked.right)
    bins = []
    for least, most in pairwise(EDGES):
        there = (said >= least) & ((said < most) | (most == 1))
        means = (float(some[there].mean()) if there.any() else float("nan") for some in (said, is_right))
        bins.append(Bin(least, most, int(there.sum()), *means))
    return bins
