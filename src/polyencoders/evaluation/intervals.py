"""Bootstrap confidence intervals over queries, for one model or for the difference of two."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from polyencoders.errors import DataError

CONFIDENCE = 0.95
_RESAMPLES = 2000
_NUMBERS = 2**21  # resampled numbers held at a time: 16 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its 95% confidence interval.

    >>> print(Interval(0.541, 0.533, 0.549))
    0.541 [0.533, 0.549]
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(values: ArrayLike, seed: int = 0) -> Interval:
    """Return the mean of per-query values `(q,)` and its 95% percentile bootstrap interval.

    Its ends equal the mean where all values are the same. They are NaN for a single query. Queries are assumed to be
    independent; turns of one conversation are not quite, so their intervals are slightly too narrow. The same `seed`
    gives the same interval. Raises a `DataError` where there are no values, or one is not finite.

    >>> interval = bootstrap_interval([0, 1, 1, 1] * 25)
    >>> interval.mean, interval.low < 0.75 < interval.high
    (0.75, True)
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise DataError(f"expected one number a query, given an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(array))} of {array.size} values are not finite")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    if (array == array[0]).all():
        return Interval(mean, mean, mean)

    from scipy.stats import bootstrap

    ends = bootstrap(
        (array,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _NUMBERS // array.size),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high))


def paired_difference(values: ArrayLike, baseline: ArrayLike, seed: int = 0) -> Interval:
    """Return how much better `values` are than `baseline` on the same queries, with a 95% interval.

    Both have one number for each query, `(q,)`, in the same order. There is a difference if the interval does not
    contain 0. Raises a `DataError` where the two differ in length, are empty, or contain numbers that are not finite.

    >>> difference = paired_difference([1, 1, 0, 1] * 25, [1, 0, 0, 1] * 25)
    >>> difference.mean, difference.low > 0
    (0.25, True)
    """
    first, second = (np.asarray(side, dtype=np.float64) for side in (values, baseline))
    if first.shape != second.shape:
        raise DataError(f"{first.shape} values against {second.shape}: expected the same queries for both")
    return bootstrap_interval(first - second, seed)
