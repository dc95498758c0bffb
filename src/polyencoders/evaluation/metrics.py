"""Ranks of the right answers, and the measures of them. The measures are ``ir_measures``' own, over trec_eval.

Ties rank against the model: a right answer scored like a wrong one is ranked below it. (trec_eval itself orders ties by
document name, and many a published script by position, which rewards a model that scores everything alike.)
Knows nothing of models or texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import PolyencodersError

CORPUS_DEPTH = 1000
"""How far down a whole corpus a right answer still counts as found, as in trec_eval."""

_MEASURE = re.compile(r"(?:R|Success)@[1-9]\d*|(?:RR|MRR|AP|MAP|nDCG)(?:@[1-9]\d*)?")
_KNOWN = "R@k, Success@k, MRR, MAP, nDCG, MRR@k, MAP@k, nDCG@k"
_BLOCK = 512  # queries handed to trec_eval at a time: bounds memory at 512 runs of CORPUS_DEPTH


def pessimistic_ranks(scores: NDArray[Any], relevant: Sequence[int]) -> NDArray[np.int64]:
    """The ranks of the right answers when ties go against them.

    Parameters
    ----------
    scores
        One query's scores, shape ``(n,)``; higher is better.
    relevant
        Positions of the r right answers in `scores`.

    Returns
    -------
    ndarray of int, shape ``(r,)``
        Ranks from 1, ascending, all different: each right answer comes after every wrong one with the same score.

    Raises
    ------
    PolyencodersError
        When a score is NaN, which has no rank.

    Examples
    --------
    >>> pessimistic_ranks(np.array([0.9, 0.5, 0.5, 0.1]), [1])
    array([3])
    """
    scores = np.asarray(scores)
    if np.isnan(scores).any():
        raise PolyencodersError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN, which cannot be ranked")
    right = np.sort(scores[list(relevant)])[::-1]
    wrong_above = [np.count_nonzero(scores >= score) - np.count_nonzero(right >= score) for score in right]
    return np.array(wrong_above, dtype=np.int64) + np.arange(1, len(right) + 1)


def measure_ranks(
    ranks: Sequence[NDArray[np.int64]], measures: Sequence[str], depth: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """Each measure of each query, from the ranks of its right answers.

    Parameters
    ----------
    ranks
        For each of q queries the ranks of all its right answers, as `pessimistic_ranks` gives them.
    measures
        Any of ``R@k`` (the share of a query's right answers in the first k; the hit rate where there is one),
        ``Success@k``, ``MRR``, ``MAP``, ``nDCG``, the last three with or without a cut-off, as in ``nDCG@10``.
    depth
        Right answers ranked below this count as not found (at least the largest cut-off). None looks at all of them.

    Returns
    -------
    dict of str to ndarray, shape ``(q,)``
        By the names given in `measures`.

    Raises
    ------
    PolyencodersError
        When a measure is not one of those above.

    Examples
    --------
    >>> measure_ranks([np.array([1]), np.array([4])], ["R@1", "MRR"])
    {'R@1': array([1., 0.]), 'MRR': array([1.  , 0.25])}
    """
    import ir_measures

    check_measures(measures)
    parsed = {name: ir_measures.parse_measure(name) for name in measures}
    if depth is None:
        depth = max((int(found[-1]) for found in ranks), default=0)
    depth = max([depth, *(int(name.partition("@")[2]) for name in measures if "@" in name)])
    # Documents are named by their rank, so a query's run is "1", "2", ... down to its last right answer: what comes
    # after it changes none of these measures.
    names = [str(rank) for rank in range(1, depth + 1)]
    run_scores = [-float(rank) for rank in range(1, depth + 1)]
    values = {name: np.zeros(len(ranks)) for name in measures}
    for start in range(0, len(ranks), _BLOCK):
        qrels, runs = {}, {}
        for query, found in enumerate(ranks[start : start + _BLOCK], start=start):
            last = int(max(found[found <= depth], default=0))
            qrels[str(query)] = {str(rank): 1 for rank in found.tolist()}
            runs[str(query)] = dict(zip(names[:last], run_scores[:last], strict=True))
        by_measure: dict[Any, dict[str, float]] = {measure: {} for measure in parsed.values()}
        for result in ir_measures.iter_calc(list(by_measure), qrels, runs):
            by_measure[result.measure][result.query_id] = result.value
        for name, measure in parsed.items():
            for query_name, value in by_measure[measure].items():
                values[name][int(query_name)] = value
    return values


def check_measures(measures: Sequence[str]) -> None:
    """Refuses measures that are not known, or that depend on more than the ranks of the right answers.

    >>> check_measures(["R@1/20"])
    Traceback (most recent call last):
    polyencoders.errors.PolyencodersError: unknown measure 'R@1/20': write 'R@1', the task knows among how many
    """
    if not measures:
        raise PolyencodersError("no measures: expected at least one, such as R@1 or MRR")
    for name in measures:
        if not _MEASURE.fullmatch(name):
            without, slash, _ = name.partition("/")
            hint = f"write {without!r}, the task knows among how many" if slash else f"expected one of {_KNOWN}"
            raise PolyencodersError(f"unknown measure {name!r}: {hint}")
