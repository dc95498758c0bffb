"""What a checkpoint should be chosen by: R@1, MRR or the cross-entropy of validation lists, the last, or an average.

    python benchmarks/choosing.py                            # all rankings, three seeds; some hours on two cores
    python benchmarks/choosing.py --tasks mutual --seeds 0
    python benchmarks/choosing.py --quick                    # under a minute, one small task; writes nothing

`bi-attention` is trained on a frozen backbone as in `quality.py`, at each of the three learning rates, and nothing is
chosen on the way. At every twentieth of the steps the model ranks validation and test lists. Each rule then chooses one
checkpoint of one rate by the validation lists alone, and its R@1 on the test lists is compared. Averages are of the
weights of the last checkpoints. Each run is a line of JSON in benchmarks/results/choosing.jsonl and is not repeated.
Also writes choosing.{json,md}; the last line printed is the summary as one JSON object.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback, set_seed

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.evaluation.metrics import pessimistic_ranks
from polyencoders.evaluation.ranking import task_scores
from polyencoders.evaluation.tasks import CandidateTask, Task
from polyencoders.training import TrainingOptions, train
from polyencoders.training.evaluators import RankingEvaluator, validation_lists
from polyencoders.training.options import FROZEN_RATES
from quality import outputs_of
from quality_methods import METHODS, SETS
from quality_tasks import RANKINGS, add_data_options, load, some

METHOD = METHODS["bi-attention, positions"]
AVERAGED = (3, 5, 10)
"""Numbers of last checkpoints whose weights are averaged."""

SCALES = 2.0 ** np.linspace(-4, 4, 33)
"""Factors of the scores among which the best is taken, so that cross-entropy says nothing of how scores are scaled."""

Measured = dict[str, float]  # "R@1", "MRR", and the cross-entropy of the lists: "CE", and "CE*" at the best scale
RULES: dict[str, Callable[[Mapping[str, Any]], tuple[float, float]]] = {
    "highest R@1": lambda run: _best(run, lambda seen: seen["R@1"]),
    "highest MRR": lambda run: _best(run, lambda seen: seen["MRR"]),
    "lowest cross-entropy": lambda run: _best(run, lambda seen: -seen["CE"]),
    "lowest cross-entropy at its best scale": lambda run: _best(run, lambda seen: -seen["CE*"]),
    "the last": lambda run: (run["checkpoints"][-1][0]["MRR"], run["checkpoints"][-1][1]["R@1"]),
    **{
        f"average of the last {k}": lambda run, k=k: (
            run["averages"][str(k)][0]["MRR"],
            run["averages"][str(k)][1]["R@1"],
        )
        for k in AVERAGED
    },
}
"""By rule: from a run, the value that chooses its learning rate, and R@1 of the test lists."""


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--tasks", nargs="+", choices=RANKINGS, default=list(RANKINGS))
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--rates", type=float, nargs="+", default=list(FROZEN_RATES))
    command.add_argument("--train-examples", type=int, default=4000, help="the largest number, drawn by seed 0")
    command.add_argument("--queries", type=int, default=500, help="the largest number of validation and test queries")
    command.add_argument("--backbone", default=DEFAULT_BACKBONE)
    add_data_options(command)
    arguments = command.parse_args()
    quieten()
    options = SETS["frozen"].options
    if arguments.quick:
        arguments.tasks, arguments.seeds, arguments.rates = ["chit-chat"], [0], [3e-4]
        arguments.train_examples, arguments.queries, options = 64, 30, replace(options, steps=20, batch_size=8)
    report = Report("choosing", ("torch", "sentence-transformers", "transformers"), arguments.quick)
    runs = report.path.with_suffix(".jsonl")
    rows = [] if arguments.quick else read_runs(runs)
    finished = {_key(row) for row in rows}
    wanted = [
        {"task": task, "seed": seed, "rate": rate, "steps": options.steps}
        | {name: getattr(arguments, name) for name in ("train_examples", "queries", "backbone")}
        for task in arguments.tasks
        for seed in arguments.seeds
        for rate in arguments.rates
    ]
    for run in tqdm([run for run in wanted if _key(run) not in finished], desc="choosing"):
        row = {**run, **measured(run, options, arguments)}
        rows.append(row)
        if not arguments.quick:
            append_runs(runs, [row])
        tqdm.write(f"{run['task']} / {run['seed']} / {run['rate']:g}: {row['seconds']:.0f} s")
    lines, found = tables(rows)
    report.keep(found)
    report.publish("Choosing a checkpoint", lines, found["means"])


def _key(row: Mapping[str, Any]) -> str:
    return json.dumps(
        [row[name] for name in ("task", "seed", "rate", "steps", "train_examples", "queries", "backbone")]
    )


def measured(run: Mapping[str, Any], options: TrainingOptions, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train once, and rank the lists of both sides at every checkpoint and with the averages of the last."""
    splits = load(run["task"], arguments.data, arguments.unpacked)
    test = some(splits.test, run["queries"])
    ranked = RANKINGS[run["task"]].ranked(test, splits.corpus)
    options = replace(
        options,
        learning_rate=run["rate"],
        seed=run["seed"],
        validation_queries=run["queries"],
        evaluate_every=options.steps,
    )
    evaluator = validation_lists(splits.validation, options)
    assert isinstance(evaluator, RankingEvaluator)
    assert isinstance(evaluator.task, CandidateTask)
    sides = (evaluator.task, ranked)
    started = time.perf_counter()
    model = _built(run)
    watching = Watching(model, sides, max(1, options.steps // 20))
    train(model, some(splits.train, run["train_examples"]), (), None, options, [watching])
    fresh = _built(run)  # without the map that training folds at its end
    averages = {}
    with outputs_of(fresh, frozen=True):
        for k in AVERAGED:
            weights = dict(fresh.named_parameters())
            for name in watching.weights[0]:
                last = torch.stack([kept[name] for kept in watching.weights[-k:]])
                weights[name].data.copy_(last.mean(0))
            averages[str(k)] = [ranking(fresh, task) for task in sides]
    return {"checkpoints": watching.seen, "averages": averages, "seconds": time.perf_counter() - started}


def _built(run: Mapping[str, Any]) -> Any:
    set_seed(run["seed"])
    cut = {"query_length": 128, "document_length": 128}
    return build_model(METHOD.architecture, run["backbone"], {**METHOD.settings, **cut}, True).eval()


class Watching(TrainerCallback):
    """Ranks the lists at the start and every so many steps, and keeps the weights that are trained."""

    def __init__(self, model: Any, sides: tuple[Task, Task], every: int) -> None:
        self.model, self.sides, self.every = model, sides, every
        self.seen: list[list[Measured]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._look()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            self._look()

    def _look(self) -> None:
        training = self.model.training
        self.model.eval()
        self.seen.append([ranking(self.model, task) for task in self.sides])
        self.model.train(training)
        trained = ((name, weights) for name, weights in self.model.named_parameters() if weights.requires_grad)
        self.weights.append({name: weights.detach().clone() for name, weights in trained})


def ranking(model: Any, task: Task) -> Measured:
    """R@1, MRR, and `-log sum_right softmax(scale score)`, the mean over the lists: as in training, and at its best."""
    ranks, entropies = [], []
    scales = model.score_scale * np.array([1.0, *SCALES])
    for scores, right in zip(task_scores(model, task), task.relevant, strict=True):
        ranks.append(pessimistic_ranks(scores, right)[0])
        logits = scales[:, None] * np.asarray(scores, dtype=np.float64)
        entropies.append(np.logaddexp.reduce(logits, axis=1) - np.logaddexp.reduce(logits[:, list(right)], axis=1))
    found, (own, *others) = np.array(ranks), np.mean(entropies, axis=0)
    return {
        "R@1": float((found == 1).mean()),
        "MRR": float((1 / found).mean()),
        "CE": float(own),
        "CE*": float(min(others)),
    }


def _best(run: Mapping[str, Any], worth: Callable[[Measured], float]) -> tuple[float, float]:
    validation, test = max(run["checkpoints"], key=lambda sides: worth(sides[0]))
    return worth(validation), test["R@1"]


def tables(rows: list[dict[str, Any]]) -> tuple[list[str], dict[str, Any]]:
    """R@1 of the test lists by task and rule, the mean over seeds, each with the rate that the rule chooses."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    reached: dict[str, dict[str, float]] = {rule: {} for rule in RULES}
    for task in tasks:
        seeds = dict.fromkeys(row["seed"] for row in rows if row["task"] == task)
        for rule, chosen in RULES.items():
            runs = [[chosen(row) for row in rows if (row["task"], row["seed"]) == (task, seed)] for seed in seeds]
            reached[rule][task] = statistics.mean(max(values, key=lambda value: value[0])[1] for values in runs)
    means = {rule: statistics.mean(values.values()) for rule, values in reached.items()}
    cells = [
        (rule, *(f"{values[task]:.3f}" for task in tasks), f"**{means[rule]:.3f}**") for rule, values in reached.items()
    ]
    title = (
        "R@1 of the test lists. The learning rate is chosen by the same measure; by MRR for the last and the averages."
    )
    return [title, "", *table(("chosen by", *tasks, "mean"), cells)], {"reached": reached, "means": means}


if __name__ == "__main__":
    main()
