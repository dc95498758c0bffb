"""Chooses how an index is searched on held-out pairs: one part of them chooses, another confirms.

Words beside the vectors, then a reranker over what that finds, then probabilities of the scores. Each is kept only
where the 95% interval of what it adds to nDCG@10 is above 0 on queries that did not choose it.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.data.examples import Example, right_answers
from polyencoders.encoders import Query, Reranker
from polyencoders.encoders.reranking import TOP, fused
from polyencoders.errors import DataError
from polyencoders.evaluation.calibrating import Bin, Marked, confirmed
from polyencoders.evaluation.intervals import Interval, bootstrap_interval, paired_difference
from polyencoders.evaluation.metrics import measure_ranks, pessimistic_ranks
from polyencoders.index import Index, IndexHit
from polyencoders.index.documents import PASSAGE_OF
from polyencoders.index.passages import kept_texts
from polyencoders.index.tuning import Tuning

MEASURES = ("R@1", "nDCG@10", "MRR")
DECIDES = "nDCG@10"
WORDS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # Weights of the words that are tried
DEPTHS = (10, TOP, 50)  # Numbers of documents that a reranker reads, that are tried
SAYS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
"""How much the reader's score says beside the first one, in spreads of the two, that is tried."""
WORTH = 0.002  # What reading more has to add to nDCG@10
MOST, FEWEST = 200, 20
"""Queries that choose, and as many that confirm: at most, and at least."""
_TIMED = 20  # Queries whose time is taken

Values = dict[str, NDArray[np.float64]]  # Each query's value of each measure, by name


class Listed(NamedTuple):
    """What a search found for a query: each text once, and of each document that is kept as passages the best one."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    texts: list[str]


@dataclass(frozen=True)
class Step:
    """One thing that was tried, with what it measured on the queries that confirm."""

    name: str
    measures: dict[str, Interval]
    gain: Interval | None  # Of nDCG@10, over what was kept before; None for the vectors alone
    kept: bool
    milliseconds: float  # Of a whole search, from a text to hits


@dataclass(frozen=True)
class Tuned:
    """What came of it."""

    tuning: Tuning
    steps: list[Step]
    reliability: list[Bin]
    """How well the probabilities did on queries that did not fit them; empty where there are none."""
    no_probabilities: str = ""  # Why there are none


class Part:
    """Some of the queries, with their right answers."""

    def __init__(self, index: Index, right: list[tuple[Query, list[frozenset[str]]]]) -> None:
        self.index, self.right = index, right  # Of each right answer, the ids of the documents that are it

    def search(self, words: float) -> list[Listed]:
        """Find candidates by vectors, and by words with a weight."""
        queries = [query for query, _ in self.right]
        answers = self.index.search(queries, DEPTHS[-1], rerank=False, words=words or False)
        listed = []
        for answer, (_, right) in zip(answers, self.right, strict=True):
            hits: dict[str, IndexHit] = {}
            for hit in answer:
                if hit.text is not None:
                    in_passages = hit.metadata.get(PASSAGE_OF) == hit.id
                    hits.setdefault(hit.id if in_passages else hit.text, hit)
            ids = frozenset().union(*right)
            is_right = np.array([hit.id in ids for hit in hits.values()], dtype=bool)
            scores = np.array([hit.score for hit in hits.values()])
            listed.append(Listed(scores, is_right, [hit.text or "" for hit in hits.values()]))
        return listed

    def values(self, listed: Sequence[Listed]) -> Values:
        """Measure what was found. A right answer that was not ranks below all."""
        ranks = []
        for one, (_, right) in zip(listed, self.right, strict=True):
            there = pessimistic_ranks(one.scores, np.flatnonzero(one.right).tolist())
            missing = DEPTHS[-1] + 1 + np.arange(len(right) - len(there))
            ranks.append(np.concatenate([there, missing]).astype(np.int64))
        return measure_ranks(ranks, MEASURES, depth=DEPTHS[-1])

    def milliseconds(self, words: float) -> float:
        """The median time of a search, from a text to ten hits."""
        times = []
        for query, _ in self.right[:_TIMED]:
            started = time.perf_counter()
            self.index.search([query], 10, rerank=False, words=words or False)
            times.append(time.perf_counter() - started)
        return 1000 * statistics.median(times)


def tune(
    index: Index,
    pairs: Sequence[Example],
    rerank: str | None = None,
    seed: int = 0,
    advance: Callable[[str, int, int], object] = lambda what, done, total: None,
) -> Tuned:
    """Choose how an index is searched, and say what each part brings. Nothing is kept: see `Index.set_tuning`.

    Parameters
    ----------
    index
        An index with its model.
    pairs
        Held-out pairs, which the model was not trained on. Queries without a right answer in the index are left out.
    rerank
        Where a reranker is loaded from, if one is to be tried.
    seed
        Of the two parts into which the queries fall.
    advance
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    DataError
        There are too few queries.
    ModelError
        A model cannot be loaded.
    """
    model = index.loaded_model()
    choose, confirm = _parts(index, pairs, seed)
    found = [part.search(0) for part in (choose, confirm)]
    before = choose.values(found[0]), confirm.values(found[1])
    milliseconds = confirm.milliseconds(0)
    steps = [Step("vectors alone", _intervals(before[1]), None, True, milliseconds)]

    def judge(name: str, tried: list[list[Listed]], took: float) -> bool:
        """Keep what was tried if both parts agree that it is better."""
        nonlocal found, before, milliseconds
        values = choose.values(tried[0]), confirm.values(tried[1])
        gain = paired_difference(values[1][DECIDES], before[1][DECIDES])
        kept = bool(gain.low > 0 and values[0][DECIDES].mean() > before[0][DECIDES].mean())
        steps.append(Step(name, _intervals(values[1]), gain, kept, took))
        if kept:
            found, before, milliseconds = tried, values, took
        return kept

    by_weight = {}
    for number, weight in enumerate(WORDS, start=1):
        by_weight[weight] = float(choose.values(choose.search(weight))[DECIDES].mean())
        advance("words", number, len(WORDS))
    words = max(by_weight, key=lambda weight: by_weight[weight])
    took = confirm.milliseconds(words)
    kept = judge(f"+ words at {words:g}", [part.search(words) for part in (choose, confirm)], took)
    tuning = Tuning(model.fingerprints.queries, words if kept else None)

    depth = TOP
    if rerank is not None:
        name = str(Path(rerank).resolve()) if Path(rerank).exists() else rerank
        reader = Reranker(name, top=DEPTHS[-1])
        read, pace = _read(reader, (choose, confirm), found, advance)
        top, weight = _best_reading(choose, found[0], read[0])
        tried = [
            [_fused(one, second, top, weight) for one, second in zip(listed, some, strict=True)]
            for listed, some in zip(found, read, strict=True)
        ]
        if judge(f"+ reranker of the best {top}", tried, milliseconds + pace * top):
            fingerprint = getattr(reader.model, "fingerprint", "")
            tuning = replace(tuning, rerank=name, rerank_fingerprint=fingerprint, rerank_top=top, rerank_weight=weight)
            depth = min(top, TOP)

    bins: list[Bin] = []
    why = ""
    try:
        calibration, bins = confirmed(*(_best(listed, depth) for listed in found))
        tuning = replace(tuning, calibration=calibration)
    except DataError as error:
        why = str(error)
    measured = {name: float(values.mean()) for name, values in before[1].items()}
    return Tuned(replace(tuning, held_out=len(confirm.right), measures=measured), steps, bins, why)


def _parts(index: Index, pairs: Sequence[Example], seed: int) -> tuple[Part, Part]:
    """The queries that choose and those that confirm, with their right answers that are in the index."""
    answers = right_answers(pairs)
    there = kept_texts(index, (text for right in answers.values() for text in right))
    right: list[tuple[Query, list[frozenset[str]]]] = [
        (query[0] if len(query) == 1 else list(query), [there[text].ids for text in texts if text in there])
        for query, texts in answers.items()
        if any(text in there for text in texts)
    ]
    random.Random(seed).shuffle(right)
    half = min(MOST, len(right) // 2)
    if half < FEWEST:
        raise DataError(
            f"{len(right)} queries of these pairs have a right answer in {index.path}: at least {2 * FEWEST} are "
            "needed, half to choose by and half to confirm"
        )
    return Part(index, right[:half]), Part(index, right[half : 2 * half])


def _read(
    reader: Reranker,
    parts: Sequence[Part],
    found: Sequence[Sequence[Listed]],
    advance: Callable[[str, int, int], object],
) -> tuple[list[list[NDArray[np.float64]]], float]:
    """The reader's scores of all candidates, and its milliseconds for one."""
    total, done, times = sum(map(len, found)), 0, []
    read: list[list[NDArray[np.float64]]] = [[] for _ in parts]
    for part, listed, scores in zip(parts, found, read, strict=True):
        for (query, _), one in zip(part.right, listed, strict=True):
            started = time.perf_counter()
            scores.append(reader.read(query, one.texts))
            times.append((time.perf_counter() - started) / max(1, len(one.texts)))
            done += 1
            advance("reranking", done, total)
    return read, 1000 * statistics.median(times)


def _best_reading(part: Part, found: Sequence[Listed], read: Sequence[NDArray[np.float64]]) -> tuple[int, float]:
    """How many to read and the weight of the reader; reading more has to be worth it."""
    both = list(zip(found, read, strict=True))
    spreads = [(one.scores[:TOP].std(), np.nanstd(second[:TOP])) for one, second in both if len(one.texts) > 1]
    first, second = np.mean(spreads, axis=0)
    unit = float(first / max(second, 1e-12))
    best, chosen = -np.inf, (TOP, unit)
    for top in DEPTHS:
        values = {
            says: float(part.values([_fused(one, some, top, says * unit) for one, some in both])[DECIDES].mean())
            for says in SAYS
        }
        says = max(values, key=lambda says: values[says])
        if values[says] > best + WORTH:
            best, chosen = values[says], (top, says * unit)
    return chosen


def _fused(one: Listed, second: NDArray[np.float64], top: int, weight: float) -> Listed:
    """What is found where the first `top` are read."""
    return one._replace(scores=fused(one.scores, np.where(np.arange(len(second)) < top, second, np.nan), weight))


def _best(found: Sequence[Listed], top: int) -> Marked:
    best = [(one, np.argsort(-one.scores, kind="stable")[:top]) for one in found]
    return Marked([one.scores[some] for one, some in best], [one.right[some] for one, some in best])


def _intervals(values: Values) -> dict[str, Interval]:
    return {name: bootstrap_interval(some) for name, some in values.items()}
