"""Evaluators that choose the checkpoint, as sentence-transformers' trainers call them, and the lists they rank."""

import csv
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers.base.evaluation import BaseEvaluator

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.encoders import Encoder
from polyencoders.encoders.passages import best_passages
from polyencoders.errors import DataError, TrainingError
from polyencoders.evaluation import (
    CandidateTask,
    Task,
    given_candidates,
    given_corpus,
    measure_ranks,
    sampled_candidates,
)
from polyencoders.evaluation.attention import attention
from polyencoders.evaluation.evaluate import MEASURES, metric_name, task_values
from polyencoders.evaluation.metrics import check_measures
from polyencoders.models import PolyEncoder
from polyencoders.scoring import score_all_pairs
from polyencoders.training.options import TrainingOptions

logger = logging.getLogger(__name__)

CANDIDATES, FEW_DOCUMENTS = 20, 200
"""Documents that a query ranks; all documents where there are no more than the second, such as names of classes."""

DEPTH = 100  # The lowest rank at which `RetrievalEvaluator` still counts a right answer as found

OF_LISTS, OF_CORPUS = ("MRR", "R@1"), ("MRR", "Success@1")
"""Measures of validation. The first chooses: R@1 of a few hundred queries tells checkpoints apart by single ones, and
MRR sees each right answer that comes nearer (docs/training.md)."""

RETRIEVAL_MEASURES = (f"MRR@{DEPTH}", "R@1", "R@10")

_EQUAL = 1e-9  # Scores that differ by less are a tie: a document's own score may be computed in another order


class RankingEvaluator(BaseEvaluator):
    """Ranks a task and returns the means, for a trainer to log and to choose the best checkpoint by.

    Parameters
    ----------
    task
        From `given_candidates`, `sampled_candidates` or `whole_corpus`.
    name
        Put before each metric, as in `chitchat_R@1/20`.
    measures
        As for `evaluate`. The first is `primary_metric`, the trainer's `metric_for_best_model` after `eval_`.
    batch_size
        Texts, or pairs, that the model reads at a time.
    write_csv
        Whether each call adds a line to `RankingEvaluator_{name}_results.csv` in the output folder.

    Examples
    --------
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
        """Return the mean of each measure by name; log it, write it to the CSV file, keep it for the model card."""
        values = task_values(model, self.task, self.measures, self.batch_size, self.show_progress_bar)
        means = {name: float(per_query.mean()) for name, per_query in values.items()}
        when = f" after {steps} steps (epoch {epoch:g})" if steps != -1 else f" after epoch {epoch:g}" * (epoch != -1)
        logger.info("%s%s: %s", self.name or self.task.protocol, when, means)
        if output_path is not None and self.write_csv:
            path = Path(output_path) / self.csv_file
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerows([["epoch", "steps", *means]] * is_new + [[epoch, steps, *means.values()]])
        metrics = self.prefix_name_to_metrics(means, self.name)
        if hasattr(model, "model_card_data"):
            self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """Return what the model card says about this evaluation."""
        return {
            "protocol": self.task.protocol,
            "queries": len(self.task.queries),
            "candidates": self.task.candidates,
            "seed": self.task.seed,
        }


class RetrievalEvaluator(BaseEvaluator):
    """Searches an index, exactly, for the right answers of examples. Ties count against the model.

    A text that equals a right answer is a right answer, whatever its id. Examples with the same query are merged. A
    right answer that is not in the index is ranked as if it were, by its vector, or those of its passages, in
    `vectors`. The primary metric is `MRR@100`. Raises a `DataError` where there are no examples, or a right answer has
    no vector.
    """

    def __init__(self, index: Any, examples: Sequence[Example], vectors: Mapping[str, NDArray[np.float32]]) -> None:
        from polyencoders.index.passages import kept_texts  # here: training needs nothing of what an index needs

        super().__init__()
        self.index = index
        self.primary_metric = RETRIEVAL_MEASURES[0]
        self.right = right_answers(examples)
        if not self.right:
            raise DataError("no queries to evaluate")
        texts = list(dict.fromkeys(text for answers in self.right.values() for text in answers))
        kept = kept_texts(index, texts)
        self.ids = {text: found.ids for text, found in kept.items()}
        self.vectors = {text: np.atleast_2d(some) for text, some in vectors.items()}
        self.vectors |= {text: found.vectors for text, found in kept.items()}
        missing = [text for text in texts if text not in self.vectors]
        if missing:
            raise DataError(f"{len(missing)} right answers are neither in the index nor among the vectors given")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the mean of each measure, by name."""
        return {name: float(values.mean()) for name, values in self.values(model).items()}

    def values(self, model: Encoder) -> dict[str, NDArray[np.float64]]:
        """Return each query's value of each measure, `(q,)`. The model's document side must be the index's."""
        queries = [query[0] if len(query) == 1 else list(query) for query in self.right]
        codes = model.encode_queries(queries).astype(np.float64)
        found = self.index.search(codes, k=DEPTH, temperature=model.temperature)
        ranks = []
        for query_codes, answer, right in zip(codes, found, self.right.values(), strict=True):
            vectors = np.concatenate([self.vectors[text] for text in right]).astype(np.float64)
            scores = score_all_pairs(query_codes[None], vectors, model.temperature)[0]
            own = np.sort(best_passages(scores, [self.vectors[text] for text in right]))[::-1]
            ids = frozenset().union(*(self.ids[text] for text in right if text in self.ids))
            wrong = np.array([hit.score for hit in answer if hit.id not in ids])
            above = [int(np.count_nonzero(wrong >= score - _EQUAL)) for score in own]
            ranks.append(np.array(above, dtype=np.int64) + np.arange(1, len(own) + 1))
        return measure_ranks(ranks, RETRIEVAL_MEASURES, depth=DEPTH)

    def get_config_dict(self) -> dict[str, Any]:
        """Return what was measured, which tells one run's validation from another's."""
        return {
            "index": str(self.index.path),
            "version": self.index.version,
            "queries": [[list(query), list(right)] for query, right in self.right.items()],
        }


def validation_lists(
    validation: Sequence[Example] | BaseEvaluator,
    options: TrainingOptions,
    encoded_once: bool = True,
    corpus: Sequence[str] = (),
    documents: Iterable[str] = (),
) -> BaseEvaluator | None:
    """Returns an evaluator: the one given, or one of the examples' own candidates or of sampled ones; None for none.

    `encoded_once` says whether each document is encoded on its own, so that long lists of the same ones are cheap.
    Where the examples have few documents, `documents`, such as those that are trained on, are wrong answers as well.
    Where documents are frozen as well, all of a `corpus` are ranked, as they will be in use: among a few sampled ones
    a model that knows something finds nearly every answer from the start, and all checkpoints look alike. Raises a
    `TrainingError` where the examples have one document between them.
    """
    if isinstance(validation, BaseEvaluator):
        return validation
    if not validation:
        return None
    # Neighbours in a file are often of one conversation or topic, so the first n would be few of them.
    number = min(options.validation_queries, len(validation))
    chosen = random.Random(options.seed).sample(list(validation), number)
    if all(example.candidates for example in chosen):
        return RankingEvaluator(given_candidates(chosen), measures=OF_LISTS, write_csv=False)
    if corpus and encoded_once and {"backbone", "documents"} & set(options.frozen):
        task = given_corpus(chosen, [*corpus, *(text for example in chosen for text in example.positives)])
        return RankingEvaluator(task, measures=OF_CORPUS, write_csv=False)
    answers = right_answers(chosen)
    own = set().union(*answers.values())
    most = max(map(len, answers.values()))
    every = own.union(*(example.positives for example in validation if example.query not in answers))
    if len(every) - most + 1 < CANDIDATES:
        every = every.union(documents)
    listed = options.candidates or (FEW_DOCUMENTS if encoded_once and len(every) <= FEW_DOCUMENTS else CANDIDATES)
    if len(own) - most + 1 < listed:
        own = every
    # A small file gets shorter lists, because an answer needs others to be ranked against.
    candidates = min(listed, len(own) - most + 1)
    if candidates < 2:
        raise TrainingError(
            f"the {len(validation)} validation examples have {len(own)} distinct documents between them: "
            "nothing to rank against"
        )
    lists = sampled_candidates(chosen, candidates, options.seed, sorted(own))
    return RankingEvaluator(lists, measures=OF_LISTS, write_csv=False)


def use_of_codes(model: PolyEncoder, task: CandidateTask) -> tuple[tuple[float, float] | None, float]:
    """Returns the entropy of the attention over the codes, and what validation measures where they are averaged."""
    with model.averaging():  # without the evaluator, which would put the figure on the model's card
        (averaged,) = task_values(model, task, OF_LISTS[:1], 64, False).values()
    return attention(model, task), float(averaged.mean())
