"""What a checkpoint is chosen by: lists of documents that validation queries rank."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

from sentence_transformers.base.evaluation import BaseEvaluator

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.evaluation import CandidateTask, given_candidates, sampled_candidates
from polyencoders.evaluation.attention import attention
from polyencoders.evaluation.evaluate import MEASURES, task_values
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.training.evaluators import RankingEvaluator
from polyencoders.training.options import TrainingOptions

CANDIDATES, FEW_DOCUMENTS = 20, 200
"""Documents that a query ranks; all documents where there are no more than the second, such as names of classes."""


def validation_lists(
    validation: Sequence[Example] | BaseEvaluator, options: TrainingOptions, encoded_once: bool = True
) -> BaseEvaluator | None:
    """Returns an evaluator: the one given, or one of the examples' own candidates or of sampled ones; None for none.

    `encoded_once` says whether each document is encoded on its own, so that long lists of the same ones are cheap.
    Raises a `TrainingError` where the examples have one document between them.
    """
    if isinstance(validation, BaseEvaluator):
        return validation
    if not validation:
        return None
    # Neighbours in a file are often of one conversation or topic, so the first n would be few of them.
    number = min(options.validation_queries, len(validation))
    chosen = random.Random(options.seed).sample(list(validation), number)
    if all(example.candidates for example in chosen):
        return RankingEvaluator(given_candidates(chosen), write_csv=False)
    answers = right_answers(chosen)
    documents = set().union(*answers.values())
    most = max(map(len, answers.values()))
    every = documents.union(*(example.positives for example in validation if example.query not in answers))
    listed = options.candidates or (FEW_DOCUMENTS if encoded_once and len(every) <= FEW_DOCUMENTS else CANDIDATES)
    if len(documents) - most + 1 < listed:
        documents = every
    # A small file gets shorter lists, because an answer needs others to be ranked against.
    candidates = min(listed, len(documents) - most + 1)
    if candidates < 2:
        raise TrainingError(
            f"the {len(validation)} validation examples have {len(documents)} distinct documents between them: "
            "nothing to rank against"
        )
    task = sampled_candidates(chosen, candidates, options.seed, sorted(documents))
    return RankingEvaluator(task, write_csv=False)


def task_of(evaluator: BaseEvaluator | None) -> CandidateTask | None:
    """Returns the lists of an evaluator, where it has lists that are known."""
    task = getattr(evaluator, "task", None)
    return task if isinstance(task, CandidateTask) else None


def measured(model: Any, evaluator: BaseEvaluator) -> float:
    """Returns what validation measures of a model as it is."""
    return float(cast(dict[str, float], evaluator(model))[str(evaluator.primary_metric)])


def use_of_codes(model: PolyEncoder, task: CandidateTask) -> tuple[tuple[float, float] | None, float]:
    """Returns the entropy of the attention over the codes, and what validation measures where they are averaged."""
    with model.averaging():  # without the evaluator, which would put the figure on the model's card
        (averaged,) = task_values(model, task, MEASURES[:1], 64, False).values()
    return attention(model, task), float(averaged.mean())
