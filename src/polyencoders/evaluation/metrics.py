"""Ranks of right answers, and measures of ranks, computed by `ir_measures` (trec_eval).

Ties count against the model: a right answer is ranked below a wrong one with the same score. trec_eval orders ties by
document name, and many published scripts by position, which rewards a model that scores everything alike.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import PolyencodersError

CORPUS_DEPTH = 1000  # The lowest rank in a whole corpus at which a right answer counts as found, as in trec_eval

_MEASURE = re.compile(r"(?:R|Success)@[1-9]\d*|(?:RR|MRR|AP|MAP|nDCG)(?:@[1-9]\d*)?")
_KNOWN = "R@k, Success@k, MRR, MAP, nDCG, MRR@k, MAP@k, nDCG@k"
_BLOCK = 512  # queries given to trec_eval at a time, which bounds memory


def pessimistic_ranks(
    scores: NDArray[Any], relevant: Sequence[int], grades: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Return the ranks of right answers, `(r,)`: from 1, all different, with ties counted against them.

    `scores` are one query's, `(n,)`, and `relevant` the positions of the r right answers. Ranks ascend; with the
    `grades` of the right answers, they are in the order of `relevant`, and of equal scores the lower grade ranks first.
    Raises `PolyencodersError` if a score is NaN.

    >>> pessimistic_ranks(np.array([0.9, 0.5, 0.5, 0.1]), [1])
    array([3])
    """
    scores = np.asarray(scores)
    if np.isnan(scores).any():
        raise PolyencodersError(f"{np.isnan(scores).sum()} of {len(scores)} scores are NaN, which cannot be ranked")
    own = scores[list(relevant)]
    order = np.lexsort((np.zeros(len(own)) if grades is None else np.asarray(grades), -own))
    right = own[order]
    wrong_above = [np.count_nonzero(scores >= score) - np.count_nonzero(right >= score) for score in right]
    ranks = np.array(wrong_above, dtype=np.int64) + np.arange(1, len(right) + 1)
    return ranks if grades is None else ranks[np.argsort(order)]


def measure_ranks(
    ranks: Sequence[NDArray[np.int64]],
    measures: Sequence[str],
    depth: int | None = None,
    grades: Sequence[Sequence[int]] | None = None,
    absent: Sequence[Sequence[int]] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return each measure of each query, `(q,)` by name, given the ranks of its right answers.

    `ranks` has for each of q queries the ranks of all its right answers, from `pessimistic_ranks`. `measures` are any
    of `R@k` (recall: the fraction of a query's right answers in the first k), `Success@k` (whether one of them is
    there), `MRR`, `MAP` and `nDCG`, the last three with or without a cut-off, as in `nDCG@10`; others raise a
    `PolyencodersError`. Right answers below rank `depth`, at least the largest cut-off, count as not found; with None
    all count. `grades` says how relevant the right answers are, in the order of the ranks (default: 1); nDCG gains by
    it. `absent` has the grades of right answers that no rank can find. A query without any right answer measures 0.

    >>> measure_ranks([np.array([1]), np.array([4])], ["R@1", "MRR"])
    {'R@1': array([1., 0.]), 'MRR': array([1.  , 0.25])}
    """
    import ir_measures

    check_measures(measures)
    parsed = {name: ir_measures.parse_measure(name) for name in measures}
    if depth is None:
        depth = max((int(found[-1]) for found in ranks), default=0)
    depth = max([depth, *(int(name.partition("@")[2]) for name in measures if "@" in name)])
    # Documents are named by their rank. A run ends with its last right answer: later ranks change none of the measures.
    names = [str(rank) for rank in range(1, depth + 1)]
    run_scores = [-float(rank) for rank in range(1, depth + 1)]
    values = {name: np.zeros(len(ranks)) for name in measures}
    for start in range(0, len(ranks), _BLOCK):
        qrels, runs = {}, {}
        for query, found in enumerate(ranks[start : start + _BLOCK], start=start):
            last = int(max(found[found <= depth], default=0))
            known = [1] * len(found) if grades is None else grades[query]
            missed = {f"absent {place}": grade for place, grade in enumerate(absent[query] if absent else ())}
            qrels[str(query)] = {**dict(zip(map(str, found.tolist()), known, strict=True)), **missed}
            runs[str(query)] = dict(zip(names[:last], run_scores[:last], strict=True))
        by_measure: dict[Any, dict[str, float]] = {measure: {} for measure in parsed.values()}
        for result in ir_measures.iter_calc(list(by_measure), qrels, runs):
            by_measure[result.measure][result.query_id] = result.value
        for name, measure in parsed.items():
            for query_name, value in by_measure[measure].items():
                values[name][int(query_name)] = value
    return values


def check_measures(measures: Sequence[str]) -> None:
    """Refuse measures that are not known, or that depend on more than the ranks of right answers."""
    if not measures:
        raise PolyencodersError("no measures: expected at least one, such as R@1 or MRR")
    for name in measures:
        if not _MEASURE.fullmatch(name):
            without, slash, _ = name.partition("/")
            hint = f"write {without!r}, the task knows among how many" if slash else f"expected one of {_KNOWN}"
            raise PolyencodersError(f"unknown measure {name!r}: {hint}")
