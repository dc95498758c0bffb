"""Measures how well a model ranks a task, and reports it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders import Reranker, Words
from polyencoders.evaluation.intervals import CONFIDENCE, Interval, bootstrap_interval
from polyencoders.evaluation.metrics import CORPUS_DEPTH, check_measures, measure_ranks
from polyencoders.evaluation.ranking import rank_task
from polyencoders.evaluation.tasks import CandidateTask, Task

if TYPE_CHECKING:
    from rich.table import Table

MEASURES = ("R@1", "MRR")


@dataclass(frozen=True, eq=False)
class Report:
    """How well a model did on a task, whose `protocol` is `sampled candidates`, `given corpus` or the like.

    What helped the model is a part of the protocol: `given corpus + words 0.8 + passages + ms-marco over the best 20`.
    `candidates` is C, the number of documents of each query (`19-20` where it varies), `queries` is q, those that are
    missed because they are not there among them, and `seed` that of sampled candidates. `metrics` has by name
    (`R@1/20`, `MRR`) the mean over queries and its 95% interval; `values`, by the same names, each query's value,
    `(q,)`, in the task's order.
    """

    protocol: str
    candidates: int | str
    queries: int
    seed: int | None
    metrics: Mapping[str, Interval]
    values: Mapping[str, NDArray[np.float64]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, without the values of each query. NaN becomes None."""
        return {
            "protocol": self.protocol,
            "candidates": self.candidates,
            "queries": self.queries,
            "seed": self.seed,
            "confidence": CONFIDENCE,
            "metrics": {
                name: {
                    "mean": interval.mean,
                    "low": None if math.isnan(interval.low) else interval.low,
                    "high": None if math.isnan(interval.high) else interval.high,
                }
                for name, interval in self.metrics.items()
            },
        }

    def table(self) -> "Table":
        """Return the report as a table for the terminal."""
        from rich.table import Table

        among = f"{self.candidates:,}" if isinstance(self.candidates, int) else self.candidates
        title = f"{self.protocol}: {self.queries:,} queries, {among} documents each"
        table = Table("measure", title=title, min_width=len(title))  # a narrower table would break its title
        table.add_column("mean", justify="right")
        table.add_column(f"{CONFIDENCE:.0%} interval", justify="right")
        for name, interval in self.metrics.items():
            ends = "one query" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"
            table.add_row(name, f"{interval.mean:.3f}", ends)
        return table


def evaluate(
    model: Any,
    task: Task,
    measures: Sequence[str] = MEASURES,
    batch_size: int = 64,
    show_progress_bar: bool = False,
    reranker: Reranker | None = None,
    words: bool | float | Words | None = None,
    passages: bool = False,
) -> Report:
    """Measures how well a model ranks: means with 95% bootstrap intervals.

    The name of `R@k` in the report includes the number of documents: `R@1/20`.

    Parameters
    ----------
    model
        Any model. Only one that encodes documents on their own can rank a whole corpus.
    task
        From `given_candidates`, `sampled_candidates`, `whole_corpus`, ...
    measures
        As for `measure_ranks`. In a whole corpus a right answer below rank 1000 counts as not found, as in trec_eval.
        Lists of candidates are measured to their end.
    batch_size
        Texts, or pairs, that the model reads at a time. The result does not depend on it.
    reranker
        Reads the best documents of each query, as in a search; the ranks are those of the fused scores.
    words
        What the words of a query count beside the model's score, as for `Index.search`; BM25 over the documents that
        the query ranks.
    passages
        Whether a document that is longer than the model reads is scored by the best of its overlapping passages; else
        by its beginning. Only for models that encode documents on their own. A reranker reads the whole document.

    Raises
    ------
    PolyencodersError
        The model cannot do the task or returns NaN, or a measure is not known.

    Examples
    --------
    >>> from polyencoders.evaluation import CandidateTask
    >>> class Longest:
    ...     def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
    ...         return [np.array([len(text) for text in texts]) for texts in documents]
    >>> task = CandidateTask(["Tea?", "Milk?"], [["Yes.", "No.", "Not now."], ["A little.", "No."]], [[2], [1]])
    >>> report = evaluate(Longest(), task)
    >>> {name: interval.mean for name, interval in report.metrics.items()}
    {'R@1/2-3': 0.5, 'MRR': 0.75}
    """
    asked = Words.of(words)
    values = task_values(model, task, measures, batch_size, show_progress_bar, reranker, asked, passages)
    metrics = {name: bootstrap_interval(per_query) for name, per_query in values.items()}
    queries = len(next(iter(values.values())))
    return Report(_protocol(task, reranker, asked, passages), task.candidates, queries, task.seed, metrics, values)


def _protocol(task: Task, reranker: Reranker | None, words: Words | None, passages: bool) -> str:
    """The protocol and what helped the model, so that its figures are not taken for its own alone."""
    parts = [task.protocol]
    if words is not None:
        parts.append(f"words {words.weight:g}")
    if passages:
        parts.append("passages")
    if reranker is not None:
        parts.append(f"{Path(reranker.name).name} over the best {reranker.top}")
    return " + ".join(parts)


def task_values(
    model: Any,
    task: Task,
    measures: Sequence[str],
    batch_size: int,
    show_progress_bar: bool,
    reranker: Reranker | None = None,
    words: Words | None = None,
    passages: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Return each query's value of each measure, `(q,)`, by name as in a report."""
    check_measures(measures)  # before the model works for an hour
    ranks = rank_task(model, task, batch_size, show_progress_bar, reranker, words, passages)
    if isinstance(task, CandidateTask):
        values = measure_ranks(ranks, measures)
    else:
        found = measure_ranks(ranks, measures, CORPUS_DEPTH, task.grades, task.absent)
        values = {measure: np.append(per_query, np.zeros(task.missed)) for measure, per_query in found.items()}
    return {metric_name(measure, task): per_query for measure, per_query in values.items()}


def metric_name(measure: str, task: Task) -> str:
    """Return the name of a measure in a report: `R@1` over lists of 20 is `R@1/20`."""
    return f"{measure}/{task.candidates}" if measure.startswith(("R@", "Success@")) else measure
