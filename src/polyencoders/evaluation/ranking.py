"""Ranks the right answers of a task by a model's scores, in bounded memory however large the corpus is."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.data.examples import Query, shortened
from polyencoders.encoders import Encoder, Reranker, Words, distinct
from polyencoders.encoders.passages import best_passages, passages_of
from polyencoders.encoders.protocols import is_encoder
from polyencoders.encoders.ranking import progress
from polyencoders.encoders.words import fits
from polyencoders.errors import PolyencodersError
from polyencoders.evaluation.metrics import pessimistic_ranks
from polyencoders.evaluation.tasks import CandidateTask, CorpusTask, Task
from polyencoders.scoring import attend, present_codes

_QUERIES = 1024  # queries encoded at a time
_SCORES = 2**24  # scores held at a time: 64 MB of float32


def rank_task(
    model: Any,
    task: Task,
    batch_size: int = 64,
    show_progress_bar: bool = False,
    reranker: Reranker | None = None,
    words: Words | None = None,
    passages: bool = False,
) -> list[NDArray[np.int64]]:
    """Return for each query the ranks of its right answers, from 1. Ties count against the model.

    Ranks ascend; where the task has grades, they are in the order of its right answers.

    To rank lists of candidates, a model has `score_lists`. To rank a whole corpus it is an `Encoder`, or has
    `encode_query`, `encode_document` and `similarity`. Raises `PolyencodersError` if the model cannot do the task, or
    returns NaN or the wrong number of scores. The arguments are those of `evaluate`.
    """
    scored = task_scores(model, task, batch_size, show_progress_bar, words, passages)
    if reranker is not None:
        scored = _reranked(reranker, task, scored)
    return [_ranks(type(model).__name__, i, task, next(scored)) for i in range(len(task.queries))]


def documents_of(task: Task, i: int) -> Sequence[str]:
    """Return the documents that a query ranks."""
    return task.documents[i] if isinstance(task, CandidateTask) else task.corpus


def task_scores(
    model: Any,
    task: Task,
    batch_size: int = 64,
    show_progress_bar: bool = False,
    words: Words | None = None,
    passages: bool = False,
) -> Iterator[NDArray[Any]]:
    """Yield each query's scores of its documents; as for `rank_task`. A document that is the query itself is last."""
    if passages:
        scored = _best_passages(model, task, batch_size, show_progress_bar, words)
    else:
        scored = _with_words(model, task, batch_size, show_progress_bar, words)
    own = task.own if isinstance(task, CorpusTask) else None
    for i, scores in enumerate(scored):
        if own is not None and (itself := own[i]) is not None and len(scores):
            scores = scores.copy()
            scores[itself] = scores.min() - 1
        yield scores


def _best_passages(
    model: Any, task: Task, batch_size: int, show_progress_bar: bool, words: Words | None
) -> Iterator[NDArray[Any]]:
    """Yield each query's scores of its documents, each that of its best passage."""
    if isinstance(task, CorpusTask):
        of_corpus = passages_of(model, task.corpus)
        cut: Task = replace(task, corpus=list(chain(*of_corpus)))  # its right answers are not looked at
        of_each = [of_corpus] * len(task.queries)
    else:
        texts = list(dict.fromkeys(chain(*task.documents)))
        of_text = dict(zip(texts, passages_of(model, texts), strict=True))
        of_each = [[of_text[text] for text in documents] for documents in task.documents]
        cut = replace(task, documents=[list(chain(*of_one)) for of_one in of_each])
    for scores, of_one in zip(_with_words(model, cut, batch_size, show_progress_bar, words), of_each, strict=True):
        yield best_passages(scores, of_one) if len(scores) == sum(map(len, of_one)) else scores


def _with_words(
    model: Any, task: Task, batch_size: int, show_progress_bar: bool, words: Words | None
) -> Iterator[NDArray[Any]]:
    """Yield each query's scores by the model and, if they count, the words."""
    added = _word_scores(words, task) if words is not None else None
    for scores in _scores(model, task, batch_size, show_progress_bar):
        more = next(added) if added is not None else None
        yield scores + more if more is not None and scores.shape == more.shape else scores


def _scores(model: Any, task: Task, batch_size: int, show_progress_bar: bool) -> Iterator[NDArray[Any]]:
    """Yield each query's scores by the model alone."""
    if isinstance(task, CorpusTask):
        yield from _corpus_scores(model, task, batch_size, show_progress_bar)
        return
    _require(model, ("score_lists",), "to rank lists of candidates")
    options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar}
    scored = model.score_lists(task.queries, task.documents, **options)
    if len(scored) != len(task.queries):
        name = type(model).__name__
        raise PolyencodersError(f"{name} gave {len(scored)} lists of scores for {len(task.queries)} queries")
    yield from map(_array, scored)


def _word_scores(words: Words, task: Task) -> Iterator[NDArray[np.float32]]:
    """Yield what words add to each query's scores."""
    if isinstance(task, CorpusTask):
        yield from fits(words, task.queries, task.corpus)
        return
    for query, texts in zip(task.queries, task.documents, strict=True):
        yield from fits(words, [query], texts)


def _reranked(reranker: Reranker, task: Task, scored: Iterator[NDArray[Any]]) -> Iterator[NDArray[np.float64]]:
    """Yield each query's fused scores."""
    for i, (query, scores) in enumerate(zip(task.queries, scored, strict=True)):
        yield reranker.rerank(query, documents_of(task, i), scores.astype(np.float64)).scores


def _corpus_scores(model: Any, task: CorpusTask, batch_size: int, show_progress_bar: bool) -> Iterator[NDArray[Any]]:
    """Yield each query's scores of the whole corpus. A text is encoded once, so equal texts get equal scores."""
    texts, where = distinct(task.corpus)
    places = np.asarray(where)
    if is_encoder(model):
        scored = _encoder_scores(model, task.queries, texts, show_progress_bar)
    else:
        _require(
            model,
            ("encode_query", "encode_document", "similarity"),
            f"to rank a whole corpus (a cross-encoder would have to read all {len(task.queries):,} x "
            f"{len(task.corpus):,} pairs): evaluate it with given or sampled candidates instead",
        )
        scored = _similarity_scores(model, task.queries, texts, batch_size, show_progress_bar)
    for scores in scored:
        yield scores[places] if scores.shape == (len(texts),) else scores


def _encoder_scores(
    model: Encoder, queries: Sequence[Query], texts: list[str], show_progress_bar: bool
) -> Iterator[NDArray[np.float32]]:
    # Matrix products: the reference goes row by row, which takes many times as long for so many pairs.
    with progress(len(texts) + len(queries), show_progress_bar) as advance:
        documents = model.encode_documents(texts, bf16=False, advance=advance)
        for start in range(0, len(queries), _QUERIES):
            codes_of_each = model.encode_queries(list(queries[start : start + _QUERIES]), advance)
            block = max(1, _SCORES // (4 * codes_of_each.shape[1]))
            for codes in codes_of_each:
                there = present_codes(codes)
                parts = [documents[first : first + block] for first in range(0, len(documents), block)]
                scores = [attend(part @ codes.T, there, model.temperature) for part in parts]
                yield np.concatenate(scores, dtype=np.float32)


def _similarity_scores(
    model: Any, queries: Sequence[Query], texts: list[str], batch_size: int, show_progress_bar: bool
) -> Iterator[NDArray[Any]]:
    options = {"batch_size": batch_size, "show_progress_bar": show_progress_bar, "convert_to_tensor": True}
    documents = model.encode_document(texts, **options)
    block = max(1, _SCORES // len(texts))
    for start in range(0, len(queries), _QUERIES):
        encoded = model.encode_query(list(queries[start : start + _QUERIES]), **options)
        for first in range(0, len(encoded), block):
            yield from _array(model.similarity(encoded[first : first + block], documents))


def _ranks(name: str, i: int, task: Task, scores: NDArray[Any]) -> NDArray[np.int64]:
    where = f"query {i + 1} ({shortened(task.queries[i])})"
    n = len(documents_of(task, i))
    if scores.shape != (n,):
        raise PolyencodersError(f"{name} gave scores of shape {scores.shape} for the {n} documents of {where}")
    grades = task.grades[i] if isinstance(task, CorpusTask) and task.grades is not None else None
    try:
        return pessimistic_ranks(scores, task.relevant[i], grades)
    except PolyencodersError as error:
        raise PolyencodersError(f"{name}, {where}: {error}") from None


def _array(scores: Any) -> NDArray[Any]:
    """Return scores as a numpy array: off the accelerator, and out of bfloat16, which numpy lacks."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu()
        scores = scores.float() if scores.element_size() < 4 else scores
    return np.asarray(scores)


def _require(model: Any, methods: Sequence[str], purpose: str) -> None:
    missing = [method for method in methods if not hasattr(model, method)]
    if missing:
        raise PolyencodersError(f"{type(model).__name__} has no {' or '.join(missing)}, needed {purpose}")
