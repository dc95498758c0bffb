"""Trains on few pairs: each is held out once, to choose the learning rate and the step; then all are trained on.

A tenth of 50 pairs says next to nothing: one query more is 20 points of R@1. In k folds every query is ranked once by a
model that has not seen it, so that the curve of the measure over the steps stands on all of them:

    measure(rate, step) = sum_f n_f measure_f(rate, step) / n

The best of many rates and steps is better than the start by luck alone. So its gain counts only where it is more than
its standard error over the folds: the one-standard-error rule (Breiman et al., *Classification and Regression Trees*,
1984).
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from polyencoders.data import Example, as_examples
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.models import DualEncoder, JointEncoder, in_full_precision
from polyencoders.training.evaluators import validation_lists
from polyencoders.training.frozen import freeze
from polyencoders.training.options import TrainingOptions
from polyencoders.training.output import check_no_model
from polyencoders.training.resume import restore_weights, trained_weights
from polyencoders.training.run import Run, TrainingResult, finish

FOLDS = 5
FEW = 100
"""Distinct queries below which `polyencoders train` works in folds."""
MOST_STEPS = 100  # Some thirty times each pair; five runs of more take long where the backbone is trained


def train_in_folds(
    model: DualEncoder | JointEncoder,
    examples: Iterable[Any],
    output_dir: Path | str | None = None,
    options: TrainingOptions | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_texts: Callable[[str, int, int], None] = lambda what, done, total: None,
    overwrite: bool = False,
) -> TrainingResult:
    """Train a model on few examples, in place, and save it; otherwise as `train`, whose arguments these are.

    The measure of the result is that of the folds: each query is ranked by a model that has not seen it, among the
    documents of all examples. At most 100 steps are made. Where the best step at the best rate is not better than the
    model as it came by more than its standard error, that is what is saved, and `best_step` is 0. Nothing is resumed.

    Raises
    ------
    DataError
        A row that is no example.
    TrainingError
        Fewer than five queries, or without `overwrite` a model that is there already.
    """
    examples = as_examples(examples)
    if output_dir is not None:
        check_no_model(Path(output_dir), overwrite)
    options = options or TrainingOptions()
    options = replace(options, steps=min(options.steps, MOST_STEPS), patience=None)
    parts = _parts(examples, options.seed)
    documents = [text for one in examples for text in (*one.positives, *one.negatives)]
    dual = isinstance(model, DualEncoder)
    in_full_precision(model)
    freeze(model, options.frozen)
    start = trained_weights(model)
    started = time.perf_counter()
    share = np.array([sum(one.query in part for one in examples) / len(examples) for part in parts])
    curves: dict[tuple[float, int], list[float]] = {}  # Of each rate and step: the measure of each fold
    starts: list[float] = []
    metric = None
    with tempfile.TemporaryDirectory() as folder:

        def run(some: list[Example], validation: Any, rate: float, more: list[TrainerCallback]) -> TrainingResult:
            restore_weights(model, start)
            chosen = replace(options, learning_rate=rate)
            own = Path(tempfile.mkdtemp(dir=folder))  # negatives that are mined are kept there
            return Run(model, some, validation, own, chosen, [*callbacks, *more], on_texts, keep=False).train()

        rates = options.learning_rates(validated=True)
        for rate in rates:
            for part in parts:
                held_out, rest = (
                    [one for one in examples if (one.query in part) == inside] for inside in (True, False)
                )
                result = run(rest, validation_lists(held_out, options, dual, documents=documents), rate, [])
                metric = result.metric
                starts.append(result.before or 0.0)
                for step, value in result.history:
                    curves.setdefault((rate, step), []).append(value)
        means = {key: float(share @ values) for key, values in curves.items()}
        before = float(share @ starts[: len(parts)])  # The same at every rate
        rate, step = max(means, key=lambda key: (means[key], -key[1]))
        gains = np.array(curves[rate, step]) - starts[: len(parts)]
        after = means[rate, step]
        if after - before > max(1e-9, gains.std(ddof=1) / len(parts) ** 0.5):
            result = run(examples, (), rate, [_StopAt(step)])
        else:
            step, after = 0, before
            result = replace(result, pairs=len(examples), steps=0, attention_entropy=None, averaged=None)
            restore_weights(model, start)
    result = replace(
        result,
        best_step=step,
        metric=f"{metric}, {len(parts)} folds",
        before=before,
        after=after,
        seconds=time.perf_counter() - started,
        rates={rate: max(value for (of, _), value in means.items() if of == rate) for rate in rates}
        if len(rates) > 1
        else {},
    )
    finish(model, result, output_dir, options)
    return result


def _parts(examples: list[Example], seed: int) -> list[set[tuple[str, ...]]]:
    """Returns the queries of each fold: an example's queries are the same text in one fold only."""
    queries = list(right_answers(examples))
    if len(queries) < FOLDS:
        raise TrainingError(
            f"{len(queries)} distinct queries are too few to tell whether training helps: give {FOLDS} or more, other "
            "pairs to choose by (--validation FILE), or train without (--validation none)"
        )
    random.Random(seed).shuffle(queries)
    return [set(queries[place::FOLDS]) for place in range(FOLDS)]


class _StopAt(TrainerCallback):
    """Stops a run at a step, with the learning rates of the whole one."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step >= self.step
