"""A ranking task as an evaluator of sentence-transformers, to validate by while training.

Knows sentence-transformers' conventions for evaluators; the measuring is in ``evaluate.py``.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator

from polyencoders.evaluation.evaluate import MEASURES, metric_name, task_values
from polyencoders.evaluation.metrics import check_measures
from polyencoders.evaluation.protocols import Task

logger = logging.getLogger(__name__)


class RankingEvaluator(BaseEvaluator):
    """Ranks a task and gives the means, for a trainer to log and to choose the best checkpoint by.

    Parameters
    ----------
    task
        From `given_candidates`, `sampled_candidates` or `whole_corpus`.
    name
        Put before each metric, as in ``chitchat_R@1/20``.
    measures
        As for `evaluate`. The first is the primary metric.
    batch_size
        Texts, or pairs, the model reads at a time.
    write_csv
        Whether to add a line to ``RankingEvaluator_{name}_results.csv`` in the output folder each time.

    Attributes
    ----------
    primary_metric
        The name of the first measure as the trainer sees it, known before the first call (the trainer's
        ``metric_for_best_model``, after ``eval_``).

    Examples
    --------
    >>> import numpy as np
    >>> from polyencoders.evaluation import CandidateTask
    >>> evaluator = RankingEvaluator(CandidateTask(["Tea?"], [["Yes.", "Not now."]], [[0]]), name="tea")
    >>> evaluator.primary_metric
    'tea_R@1/2'
    >>> class Longest:
    ...     def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
    ...         return [np.array([len(text) for text in texts]) for texts in documents]
    >>> evaluator(Longest())
    {'tea_R@1/2': 0.0, 'tea_MRR': 0.5}
    """

    def __init__(
        self,
        task: Task,
        name: str = "",
        measures: Sequence[str] = MEASURES,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        write_csv: bool = True,
    ) -> None:
        super().__init__()
        check_measures(measures)
        self.task = task
        self.name = name
        self.measures = tuple(measures)
        self.batch_size = batch_size
        self.show_progress_bar = show_progress_bar
        self.write_csv = write_csv
        self.csv_file = f"RankingEvaluator{'_' + name if name else ''}_results.csv"
        self.primary_metric = f"{name}_{metric_name(self.measures[0], task)}".removeprefix("_")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The mean of each measure, by name; also logged, written to the CSV file and kept for the model card."""
        values = task_values(model, self.task, self.measures, self.batch_size, self.show_progress_bar)
        means = {name: float(per_query.mean()) for name, per_query in values.items()}
        when = f" after {steps} steps (epoch {epoch:g})" if steps != -1 else f" after epoch {epoch:g}" * (epoch != -1)
        logger.info("%s%s: %s", self.name or self.task.protocol, when, means)
        if output_path is not None and self.write_csv:
            self._append(Path(output_path), [epoch, steps, *means.values()], list(means))
        metrics = self.prefix_name_to_metrics(means, self.name)
        if hasattr(model, "model_card_data"):
            self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    def _append(self, folder: Path, row: list[float], names: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.csv_file
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["epoch", "steps", *names])
            writer.writerow(row)

    def get_config_dict(self) -> dict[str, Any]:
        """What the model card says about this evaluation."""
        return {
            "protocol": self.task.protocol,
            "queries": len(self.task.queries),
            "candidates": self.task.candidates,
            "seed": self.task.seed,
        }
