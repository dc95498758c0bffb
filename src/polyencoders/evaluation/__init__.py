"""Tasks, measures and reports: how well does a model rank, and how sure is that?

Works with any model that scores lists, or encodes queries and documents.
"""

from polyencoders.evaluation.card import put_results
from polyencoders.evaluation.evaluate import Report, evaluate
from polyencoders.evaluation.intervals import Interval, bootstrap_interval, paired_difference
from polyencoders.evaluation.metrics import measure_ranks, pessimistic_ranks
from polyencoders.evaluation.ranking import rank_task
from polyencoders.evaluation.tasks import (
    CandidateTask,
    CorpusTask,
    Task,
    given_candidates,
    given_corpus,
    judged_corpus,
    sampled_candidates,
    shared_candidates,
    whole_corpus,
)

__all__ = [
    "CandidateTask",
    "CorpusTask",
    "Interval",
    "Report",
    "Task",
    "bootstrap_interval",
    "evaluate",
    "given_candidates",
    "given_corpus",
    "judged_corpus",
    "measure_ranks",
    "paired_difference",
    "pessimistic_ranks",
    "put_results",
    "rank_task",
    "sampled_candidates",
    "shared_candidates",
    "whole_corpus",
]
