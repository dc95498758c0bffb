"""A model and a task in, the ranks of the right answers out. Memory stays bounded however large the corpus is.

Knows only what models can be asked; nothing of what kind they are, or of measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.data.examples import Query, shortened
from polyencoders.errors import PolyencodersError
from polyencoders.evaluation.metrics import pessimistic_ranks
from polyencoders.evaluation.protocols import CandidateTask, CorpusTask, Task

_QUERIES = 1024  # queries encoded at a time
_SCORES = 2**24  # scores held at a time: 64 MB of float32


def rank_task(model: Any, task: Task, batch_size: int = 64, show_progress_bar: bool = False) -> list[NDArray[np.int64]]:
    """The ranks of each query's right answers, ties against the model.

    Parameters
    ----------
    model
        For candidate lists: has ``score_lists``. For a whole corpus: has ``encode_query``, ``encode_document`` and
        ``similarity``.
    task
        What to rank.
    batch_size
        Texts, or pairs, the model reads at a time.

    Returns
    -------
    list of ndarray of int
        For each query the ranks from 1 of its right answers, ascending.

    Raises
    ------
    PolyencodersError
        When the model cannot do the task, or gives NaN or the wrong number of scores.

    Examples
    --------
    >>> from polyencoders.evaluation import CandidateTask
    >>> class Longest:
    ...     def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
    ...         return [np.array([len(text) for text in texts]) for texts in documents]
    >>> rank_task(Longest(), CandidateTask(["Tea?"], [["Yes.", "No.", "Not now."]], [[0]]))
    [array([2])]
    """
    if isinstance(task, CorpusTask):
        return _rank_corpus(model, task, batch_size, show_progress_bar)
    return _rank_lists(model, task, batch_size, show_progress_bar)


def _rank_lists(model: Any, task: CandidateTask, batch_size: int, show_progress_bar: bool) -> list[NDArray[np.int64]]:
    _require(model, ("score_lists",), "to rank lists of candidates")
    scored = model.score_lists(task.queries, task.documents, batch_size=batch_size, show_progress_bar=show_progress_bar)
    if len(scored) != len(task.queries):
        raise PolyencodersError(f"{_name(model)} gave {len(scored)} lists of scores for {len(task.queries)} queries")
    return [
        _ranks(model, i, query, _array(scores), len(documents), relevant)
        for i, (query, scores, documents, relevant) in enumerate(
            zip(task.queries, scored, task.documents, task.relevant, strict=True)
        )
    ]


def _rank_corpus(model: Any, task: CorpusTask, batch_size: int, show_progress_bar: bool) -> list[NDArray[np.int64]]:
    _require(
        model,
        ("encode_query", "encode_document", "similarity"),
        f"to rank a whole corpus (a cross-encoder would have to read all {len(task.queries):,} x {len(task.corpus):,} "
        "pairs): evaluate it with given or sampled candidates instead",
    )
    options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar, "convert_to_tensor": True}
    documents = model.encode_document(list(task.corpus), **options)
    block = max(1, _SCORES // len(task.corpus))
    ranks: list[NDArray[np.int64]] = []
    for start in range(0, len(task.queries), _QUERIES):
        queries = model.encode_query(list(task.queries[start : start + _QUERIES]), **options)
        for first in range(0, len(queries), block):
            for scores in _array(model.similarity(queries[first : first + block], documents)):
                i = len(ranks)
                ranks.append(_ranks(model, i, task.queries[i], scores, len(task.corpus), task.relevant[i]))
    return ranks


def _ranks(
    model: Any, i: int, query: Query, scores: NDArray[Any], n: int, relevant: Sequence[int]
) -> NDArray[np.int64]:
    where = f"query {i + 1} ({shortened(query)})"
    if scores.shape != (n,):
        raise PolyencodersError(f"{_name(model)} gave scores of shape {scores.shape} for the {n} documents of {where}")
    try:
        return pessimistic_ranks(scores, relevant)
    except PolyencodersError as error:
        raise PolyencodersError(f"{_name(model)}, {where}: {error}") from None


def _array(scores: Any) -> NDArray[Any]:
    """Scores as numpy has them: off the accelerator, and out of bfloat16, which numpy lacks."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu()
        scores = scores.float() if scores.element_size() < 4 else scores
    return np.asarray(scores)


def _require(model: Any, methods: Sequence[str], purpose: str) -> None:
    missing = [method for method in methods if not hasattr(model, method)]
    if missing:
        raise PolyencodersError(f"{_name(model)} has no {' or '.join(missing)}, needed {purpose}")


def _name(model: Any) -> str:
    return type(model).__name__
