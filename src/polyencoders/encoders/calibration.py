"""Probabilities out of scores: a logistic regression on one number (Platt 1999, "Probabilistic outputs for SVMs").

    p(right | s) = 1 / (1 + exp(-(a s + b)))

It is fitted to the documents that queries rank, of which some are right, so it speaks of such documents: candidates of
a query that has an answer, as many as there were when it was fitted. What nobody has marked as right counts as wrong,
so probabilities are rather too low than too high.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyencoders.errors import DataError, ModelError
from polyencoders.files import whole_file

CALIBRATION = "calibration.json"  # The file of a model's directory that holds it
FEWEST = 20  # The fewest queries with a right answer among their candidates: a line through fewer means nothing


@dataclass(frozen=True)
class Calibration:
    """A fitted line, and what it was fitted to.

    Examples
    --------
    >>> scores = [np.array([0.9, 0.4, 0.1]), np.array([0.5, 0.7, 0.2])] * 10
    >>> fitted = Calibration.fit(scores, [np.array([True, False, False])] * 20)
    >>> fitted.probability([0.9, 0.1]).round(2)
    array([0.8 , 0.05])
    """

    a: float
    b: float
    queries: int  # Queries that had a right answer among their candidates
    candidates: int  # Documents of a query, at most: the first of a search, or the list that it ranked

    @classmethod
    def fit(cls, scores: Sequence[NDArray[np.floating]], right: Sequence[NDArray[np.bool_]]) -> "Calibration":
        """Fit a and b by maximum likelihood to the scores of each query's candidates, and to which of them are right.

        Raises a `DataError` where too few queries have a right answer among their candidates, or higher scores are not
        more often right.
        """
        answered = sum(map(bool, map(np.any, right)))
        if answered < FEWEST:
            raise DataError(
                f"{answered} queries have a right answer among their candidates, and at least {FEWEST} are needed for "
                "probabilities: give more held-out pairs"
            )
        x, is_right = np.concatenate(scores).astype(np.float64), np.concatenate(right)
        # Platt's targets, a little within 0 and 1: a and b stay finite where right and wrong do not overlap.
        yes, no = int(is_right.sum()), int((~is_right).sum())
        wanted = np.where(is_right, (yes + 1) / (yes + 2), 1 / (no + 2))
        middle, spread = x.mean(), x.std() or 1.0
        rows = np.stack([(x - middle) / spread, np.ones_like(x)], axis=1)
        line = np.array([0.0, math.log((yes + 1) / (no + 1))])
        for _ in range(100):  # Newton's method, half a step where a whole one goes too far
            p = _logistic(rows @ line)
            step = np.linalg.solve((rows * (p * (1 - p))[:, None]).T @ rows + 1e-12 * np.eye(2), rows.T @ (wanted - p))
            while _loss(rows @ (line + step), wanted) > _loss(rows @ line, wanted) + 1e-12:
                step /= 2
            line += step
            if np.abs(step).max() < 1e-10:
                break
        a = float(line[0] / spread)
        if not a > 0:
            raise DataError("higher scores are not more often right on these pairs: there is nothing to calibrate")
        return cls(a, float(line[1] - a * middle), answered, max(map(len, scores)))

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that each document is right, `(n,)`."""
        return _logistic(self.a * np.asarray(scores, dtype=np.float64) + self.b)

    def loss(self, scores: ArrayLike, right: NDArray[np.bool_]) -> float:
        """Return the sum of `-log p(what was the case)` over documents."""
        return _loss(self.a * np.asarray(scores, dtype=np.float64) + self.b, right.astype(np.float64))

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Keep it with a model."""
        with whole_file(Path(folder) / CALIBRATION) as scratch:
            scratch.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Calibration | None":
        """Return what is kept with a model; None where nothing is, ModelError where it is damaged."""
        path = Path(folder) / CALIBRATION
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path} is damaged ({error}): `polyencoders calibrate` makes it again") from None


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


def _loss(x: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, x) - wanted * x).sum())
