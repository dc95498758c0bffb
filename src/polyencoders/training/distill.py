"""A slow teacher's judgement given to a fast model: lists of documents, the teacher's scores of them, a training run.

Each part is in a file of its own: `lists.py`, `teacher.py`, `distillation_loss.py`, `train.py`. Knows how they fit
together.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerCallback

from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.models.dual import DualEncoder
from polyencoders.models.precision import in_full_precision
from polyencoders.training.freezing import freeze
from polyencoders.training.frozen import FrozenOutputs
from polyencoders.training.lists import candidate_lists, kept_lists
from polyencoders.training.options import Distillation, TrainingOptions
from polyencoders.training.processes import by_the_first, processes
from polyencoders.training.result import TrainingResult
from polyencoders.training.resuming import CHECKPOINTS
from polyencoders.training.teacher import Teacher
from polyencoders.training.train import train


def distill(
    model: DualEncoder,
    teacher: Any,
    examples: Sequence[Example],
    validation: Sequence[Example] | BaseEvaluator = (),
    output_dir: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_texts: Callable[[str, int, int], None] = lambda what, done, total: None,
    on_pairs: Callable[[int, int], None] = lambda done, total: None,
    corpus: Sequence[str] = (),
) -> TrainingResult:
    """Train a bi- or poly-encoder on a teacher's scores, in place, and save it.

    For each pair a list is made of the right answer, hard negatives that the model itself finds, and random ones. The
    teacher scores them once; its scores are kept by teacher and texts, for this run and any other. Of more examples
    than the steps will come to, it reads no more than those. An interrupted run, called again with the same arguments,
    goes on where it stopped and ends the same.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`: the student. Better one that was trained on the same pairs before: its hard
        negatives are then hard.
    teacher
        A cross-encoder, or any other model of ours, or where to load one from; a `Teacher` as well.
    examples, validation, output_dir, callbacks, on_texts
        As for `train`.
    options
        Of training; its `distillation` says what is learnt, by default `Distillation()`.
    on_pairs
        Told how many pairs the teacher has scored, and of how many.
    corpus
        More documents to draw negatives from, beside the examples' right answers.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ModelError
        The teacher cannot be loaded.
    TrainingError
        The student or the teacher is none, too few documents, a teacher's score that is not a number, and as `train`.

    Examples
    --------
    See docs/training.md, "Distillation".
    """
    options = options or TrainingOptions()
    chosen = options.distillation if isinstance(options.distillation, Distillation) else Distillation()
    if not isinstance(model, DualEncoder):
        raise TrainingError(f"a {type(model).__name__} reads pairs: what is distilled is a bi- or poly-encoder")
    if not examples:
        raise TrainingError("no examples to train on")
    teaching = teacher if isinstance(teacher, Teacher) else Teacher(teacher, bf16=options.bf16)
    if teaching.model is model:
        raise TrainingError("a model cannot be its own teacher: load it a second time")
    examples, corpus = _learnt(examples, corpus, options)
    processes(model.device)  # joined by all of them before the first may write
    in_full_precision(model)
    freeze(model, options.frozen)
    outputs = FrozenOutputs(model, bf16=options.bf16) if options.frozen else None
    with outputs.applied() if outputs is not None and outputs.useful else nullcontext():
        if outputs is not None and outputs.useful and chosen.hard_negatives is not None:
            documents = [text for example in examples for text in example.positives]
            queries = [example.query for example in examples]
            outputs.prepare_all({"query": queries, "document": [*documents, *corpus]}, on_texts)
        made = (model, examples, chosen, corpus, options.seed)
        if output_dir is None:
            lists = by_the_first(lambda: candidate_lists(*made))
        else:
            file = Path(output_dir).absolute() / CHECKPOINTS / "lists.json"
            lists = by_the_first(lambda: kept_lists(file, *made))
    scores = teaching.score(lists, on_pairs)
    options = replace(options, distillation=replace(chosen, teacher=chosen.teacher or teaching.name))
    return train(model, lists, validation, output_dir, options, callbacks, on_texts, scores)


def _learnt(
    examples: Sequence[Example], corpus: Sequence[str], options: TrainingOptions
) -> tuple[Sequence[Example], Sequence[str]]:
    """As many examples as the steps come to, drawn query by query; what answers the others joins the corpus.

    With all the examples of a query, its other right answers are known and will not be taken for wrong.
    """
    most = options.steps * options.batch_size
    if sum(len(example.positives) for example in examples) <= most:
        return examples, corpus
    of_query: dict[Any, list[Example]] = {}
    for example in examples:
        of_query.setdefault(example.query, []).append(example)
    drawn: list[Example] = []
    pairs = 0
    for query in random.Random(options.seed).sample(list(of_query), len(of_query)):
        if pairs >= most:
            break
        drawn += of_query[query]
        pairs += sum(len(example.positives) for example in of_query[query])
    return drawn, list(dict.fromkeys([*corpus, *(text for example in examples for text in example.positives)]))
