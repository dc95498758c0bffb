"""Protocols, measures and reports: how well does a model rank, and how sure is that?

Works with any model that scores lists or encodes queries and documents. Knows nothing of training or of indexes.
"""

from typing import TYPE_CHECKING, Any

from polyencoders.evaluation.evaluate import Report, evaluate
from polyencoders.evaluation.intervals import Interval, bootstrap_interval, paired_difference
from polyencoders.evaluation.metrics import measure_ranks, pessimistic_ranks
from polyencoders.evaluation.protocols import (
    CandidateTask,
    CorpusTask,
    Task,
    given_candidates,
    given_corpus,
    sampled_candidates,
    shared_candidates,
    whole_corpus,
)
from polyencoders.evaluation.ranking import rank_task

if TYPE_CHECKING:
    from polyencoders.evaluation.evaluator import RankingEvaluator

__all__ = [
    "CandidateTask",
    "CorpusTask",
    "Interval",
    "RankingEvaluator",
    "Report",
    "Task",
    "bootstrap_interval",
    "evaluate",
    "given_candidates",
    "given_corpus",
    "measure_ranks",
    "paired_difference",
    "pessimistic_ranks",
    "rank_task",
    "sampled_candidates",
    "shared_candidates",
    "whole_corpus",
]


def __getattr__(name: str) -> Any:
    # Imports sentence-transformers, and so torch: only for those who ask for it.
    if name == "RankingEvaluator":
        from polyencoders.evaluation.evaluator import RankingEvaluator

        return RankingEvaluator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
