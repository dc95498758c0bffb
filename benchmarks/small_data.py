"""What 5 to 200 pairs bring: R@1 of held-out test queries before and after `polyencoders train` on a frozen backbone.

    python benchmarks/small_data.py            # five draws of each size, an hour or more; --draws 1 takes a fifth
    python benchmarks/small_data.py --quick    # one draw of 10 pairs, 10 steps; writes nothing

Pairs are drawn at random from a training side, several times; the model that is trained is the default one, as
`polyencoders train --data pairs.jsonl --freeze backbone` trains it: below 100 queries in folds, then on all. Where the
folds show no gain, the model stays as it comes. The difference is that of the test
queries, each counted by its mean over the draws. On the built-in conversations, and on Banking77 if its archive is in
`--data`. Writes benchmarks/results/small_data.{json,md} after each size, and keeps what `--tasks` and `--sizes` leave
out; the last line printed is the summary as one JSON object.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from polyencoders.cli.architectures import DEFAULT_ARCHITECTURE, DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.cli.recipes import parse_recipe
from polyencoders.cli.train import read_splits
from polyencoders.data import Example, Splits, write_jsonl
from polyencoders.evaluation import evaluate, paired_difference
from polyencoders.evaluation.tasks import Task
from polyencoders.training import train, train_in_folds
from quality import outputs_of
from quality_tasks import RANKINGS, add_data_options, load, some

TASKS, SIZES, DRAWS, QUERIES = ("chit-chat", "banking77"), (5, 10, 20, 50, 100, 200), 5, 300
OPTIONS: dict[str, Any] = {"steps": 1000, "freeze": ["backbone"]}  # Those of the command line


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--draws", type=int, default=DRAWS)
    command.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    command.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=list(SIZES))
    add_data_options(command)
    arguments = command.parse_args()
    quieten()
    if arguments.quick:
        arguments.tasks, arguments.sizes, arguments.draws = ["chit-chat"], [10], 1
    OPTIONS["steps"] = 10 if arguments.quick else 1000
    report = Report("small_data", ("torch", "sentence-transformers", "transformers"), arguments.quick)
    rows = report.results.get("rows", [])
    for name in arguments.tasks:
        archive = RANKINGS[name].archive
        if archive is not None and not (arguments.data / f"{archive}.tar.gz").exists():
            continue
        splits = load(name, arguments.data, arguments.unpacked)
        task = RANKINGS[name].ranked(some(splits.test, 50 if arguments.quick else QUERIES), splits.corpus)
        before = right(new_model(), task)
        for size in arguments.sizes:
            found = [trained(drawn(splits, size, draw), task) for draw in range(arguments.draws)]
            after, kept = [values for values, _ in found], sum(step == 0 for _, step in found)
            gain = paired_difference(np.mean(after, axis=0), before)
            means = [float(values.mean()) for values in after]
            row: dict[str, Any] = {"task": name, "pairs": size, "before": float(before.mean()), "after": means}
            rows = [one for one in rows if (one["task"], one["pairs"]) != (name, size)]
            rows = sorted([*rows, row | {"as it came": kept, "gain": [gain.mean, gain.low, gain.high]}], key=_place)
            report.keep({"rows": rows, "queries": QUERIES})
            print(row, flush=True)
    header = ("task", "pairs", "R@1 before", "after, mean", "worst to best draw", "difference (95%)", "as it came")
    about = __doc__.partition("\n\n")[0]
    report.publish("Small data", [about, "", *table(header, map(_cells, rows))], {"rows": rows})


def _place(row: dict[str, Any]) -> tuple[int, int]:
    return TASKS.index(row["task"]), row["pairs"]


def new_model() -> Any:
    """The default model, as it comes."""
    set_seed(0)
    return build_model(DEFAULT_ARCHITECTURE, DEFAULT_BACKBONE, {}, frozen=True)


def drawn(splits: Splits, size: int, draw: int) -> list[Example]:
    """So many pairs of different queries, at random."""
    examples = {example.query: example for example in splits.train}
    return random.Random(draw).sample(list(examples.values()), size)


def trained(pairs: list[Example], task: Task) -> tuple[Any, int | None]:
    """The values of the test queries after training as the command does it, and the step that was kept."""
    model = new_model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write_jsonl(pairs, path)
        recipe = parse_recipe({"data": {"train": str(path)}, "training": dict(OPTIONS), "output": folder})
        examples, validation, corpus = read_splits(recipe)
        if validation:
            result = train(model, examples, validation, options=recipe.options, corpus=corpus)
        else:
            result = train_in_folds(model, examples, options=recipe.options)
    return right(model, task), result.best_step


def right(model: Any, task: Task) -> Any:
    """1 for each test query whose first document is right, else 0."""
    with outputs_of(model, frozen=True):
        (values,) = evaluate(model, task, ("R@1",)).values.values()
    return values


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    mean, low, high = row["gain"]
    after = row["after"]
    return (
        row["task"],
        str(row["pairs"]),
        f"{row['before']:.3f}",
        f"{np.mean(after):.3f}",
        f"{min(after):.3f} to {max(after):.3f}",
        f"{mean:+.3f} ({low:+.3f} to {high:+.3f})",
        f"{row['as it came']} of {len(after)}",
    )


if __name__ == "__main__":
    main()
