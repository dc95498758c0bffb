"""Distillation: a teacher scores lists of documents, and a bi- or poly-encoder learns from the scores."""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerCallback

from polyencoders.data import Example
from polyencoders.encoders.queries import Query
from polyencoders.errors import TrainingError
from polyencoders.evaluation import Interval, bootstrap_interval, paired_difference
from polyencoders.evaluation.evaluate import task_values
from polyencoders.models import DualEncoder, Side, in_full_precision
from polyencoders.training.evaluators import RankingEvaluator, validation_lists
from polyencoders.training.frozen import freeze, kept_outputs
from polyencoders.training.negatives import Miner
from polyencoders.training.options import Distillation, HardNegatives, TrainingOptions
from polyencoders.training.processes import by_the_first, processes
from polyencoders.training.resume import CHECKPOINTS, digest, kept_json
from polyencoders.training.run import TrainingResult, train
from polyencoders.training.teacher import Teacher

COMPARED = 50  # Validation queries that a teacher and its student rank before they begin


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
    overwrite: bool = False,
) -> TrainingResult:
    """Train a bi- or poly-encoder on a teacher's scores, in place, and save it.

    The teacher scores a list for each pair, as many as the steps use: the right answer, hard negatives that the model
    mines, and random ones. Its scores are kept for any other run. An interrupted run, called again with the same
    arguments, goes on where it stopped and ends the same. docs/training.md, "Distillation", has an example.

    Parameters
    ----------
    model
        The student: a `BiEncoder` or `PolyEncoder`, which mines harder negatives if it was trained before.
    teacher
        A cross-encoder or any other model of this package, where to load one from, or a `Teacher`.
    examples, validation, output_dir, callbacks, on_texts
        As for `train`.
    options
        Options of training; `distillation` says what is learnt. Default: `Distillation()`.
    on_pairs
        Told how many pairs the teacher has scored, and of how many.
    corpus
        More documents to draw negatives from, beside the examples' right answers; also as for `train`.

    Raises
    ------
    ModelError
        The teacher cannot be loaded.
    TrainingError
        An unsuitable student or teacher, too few documents, a score that is not a number, or as for `train`.
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
    examples, drawn_from = _used(examples, corpus, options)
    processes(model.device)  # joined by all processes before the first may write
    in_full_precision(model)
    freeze(model, options.frozen)
    texts: dict[Side, list[Query]] = {
        "query": [example.query for example in examples],
        "document": [*(text for example in examples for text in example.positives), *drawn_from],
    }
    file = None if output_dir is None else Path(output_dir).absolute() / CHECKPOINTS / "lists.json"
    with kept_outputs(model, options.bf16, lambda: texts, on_texts) if chosen.hard_negatives else nullcontext():
        made = (file, model, examples, chosen, drawn_from, options.seed)
        lists = by_the_first(lambda: _kept_lists(*made))
    scores = teaching.score(lists, on_pairs)
    options = replace(options, distillation=replace(chosen, teacher=chosen.teacher or teaching.name))
    keywords: dict[str, Any] = {"corpus": corpus, "overwrite": overwrite}
    return train(model, lists, validation, output_dir, options, callbacks, on_texts, scores, **keywords)


@dataclass(frozen=True)
class Comparison:
    """How well a teacher and its student, as it comes, rank the lists of the same queries: MRR, with 95% intervals."""

    teacher: Interval
    student: Interval
    difference: Interval
    queries: int


def compare_with_teacher(
    model: DualEncoder, teacher: Teacher, validation: Sequence[Example], options: TrainingOptions
) -> Comparison:
    """Ranks the lists of some validation queries with a teacher and with its student, before an hour is spent on them.

    A student does not learn to rank better from a teacher that ranks worse (docs/results.md, "Ways of training").
    """
    evaluator = validation_lists(validation, replace(options, validation_queries=COMPARED), encoded_once=False)
    assert isinstance(evaluator, RankingEvaluator), "examples make lists"
    ((theirs,), (ours,)) = (
        task_values(one, evaluator.task, ["MRR"], 64, False).values() for one in (teacher.model, model)
    )
    return Comparison(bootstrap_interval(theirs), bootstrap_interval(ours), paired_difference(theirs, ours), len(ours))


def candidate_lists(
    model: Any, examples: Sequence[Example], options: Distillation, corpus: Sequence[str] = (), seed: int = 0
) -> list[Example]:
    """Returns one example for each pair of a query and a right answer, with `options.negatives` negatives.

    They are the example's own and those of its candidates, then mined and random ones. No right answer of the query is
    among them. Hard negatives may score above the right answer: the teacher says whether they are wrong. Raises a
    `TrainingError` where the model cannot search or there are too few documents.
    """
    hard = options.hard_negatives if isinstance(options.hard_negatives, HardNegatives) else None
    # Without hard negatives the miner only says which answers are right and which documents there are.
    miner = Miner(model, examples, hard or HardNegatives(number=1), corpus, seed)
    mined = miner.mine() if hard is not None else {}
    lists = []
    for row, (example, positive) in enumerate((one, answer) for one in examples for answer in one.positives):
        right = miner.right[example.query]
        own = [*example.negatives, *(example.candidates or ())]
        chosen = [text for text in own if text not in right]
        chosen += mined.get((example.query, positive), [])
        chosen = list(dict.fromkeys(chosen))[: options.negatives]
        missing = options.negatives - len(chosen)
        chosen += miner.others(example.query, chosen, missing, np.random.default_rng((seed, row)))
        lists.append(Example(example.query, positive, chosen))
    return lists


def _kept_lists(
    file: Path | None, model: Any, examples: Sequence[Example], options: Distillation, corpus: Sequence[str], seed: int
) -> list[Example]:
    """Returns `candidate_lists`, or those that the file keeps: a resumed run has the lists that it began with.

    The lists depend on the model as it came; a model that was built again may have other new weights.
    """
    asked = [[list(one.query), list(one.positives), list(one.negatives)] for one in examples]
    of = digest([asked, list(corpus), repr(options), seed])

    def made() -> dict[str, Any]:
        negatives = [one.negatives for one in candidate_lists(model, examples, options, corpus, seed)]
        places = {text: place for place, text in enumerate(dict.fromkeys(text for some in negatives for text in some))}
        listed = [[places[text] for text in some] for some in negatives]
        return {"of": of, "documents": list(places), "negatives": listed}

    kept = kept_json(file, made)
    if file is not None and kept["of"] != of:
        raise TrainingError(
            f"{file.parent} holds the lists of an interrupted run with other data or options: run it again as it was "
            "to finish it, choose another folder, or delete that one"
        )
    pairs = [(example.query, answer) for example in examples for answer in example.positives]
    return [
        Example(query, answer, [kept["documents"][place] for place in places])
        for (query, answer), places in zip(pairs, kept["negatives"], strict=True)
    ]


def _used(
    examples: Sequence[Example], corpus: Sequence[str], options: TrainingOptions
) -> tuple[Sequence[Example], Sequence[str]]:
    """Returns as many examples as the steps use, and the corpus with all right answers in it.

    Whole queries are drawn, so that all right answers of a query are known and none is taken for wrong.
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
