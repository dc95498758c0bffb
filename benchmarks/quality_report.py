"""The report of `quality.py`: its tables and its figure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quality_methods import GROUPS, SETS
from quality_tasks import RANKINGS
from report import RESULTS, figure, machine_line, table

Row = dict[str, Any]
TITLES = {
    "main": "",
    "reductions": "Reductions of a bi-encoder",
    "codes": "Kinds and numbers of codes",
    "batches": "In-batch negatives",
    "layers": "What is tuned",
    "training": "Ways of training",
    "attention": "Attempts at attention that chooses among the codes",
}
"""Titles of `quality_methods.GROUPS`."""
SETTINGS = ("set", "backbone", "steps", "train_examples", "queries", "length")
"""What the rows of a section share."""


def tables(rows: list[Row]) -> tuple[list[str], dict[str, Any]]:
    """The tables in Markdown, and their figures by section, group and method."""
    found: dict[str, Any] = {}
    lines = [
        "The right answer at first place (R@1; where a query has several right answers, any of them). ± is the "
        "standard deviation over seeds, in brackets how many. *Mean* is over the tasks on which "
        "all methods of a table that have one have run.",
        "",
    ]
    for title, section in sections(rows).items():
        lines += [f"## {title}", ""]
        found[title] = {}
        for group, methods in GROUPS.items():
            chosen = [row for row in section if row["method"] in methods]
            if group != "main":
                # Beside an ablation's own rows, those of the main table on the same tasks and with the same seeds.
                own = {(row["task"], row["seed"]) for row in chosen if row["method"] not in GROUPS["main"]}
                chosen = [row for row in chosen if (row["task"], row["seed"]) in own]
                if not own:
                    continue
                lines += [f"### {TITLES[group]}", ""]
            found[title][group] = means(chosen, methods)
            lines += _table(found[title][group], tasks_across=group != "main")
            lines += [*notes(chosen, details=group == "main"), ""]
    costs = RESULTS / "quality_costs.json"
    if costs.exists():
        measured = json.loads(costs.read_text(encoding="utf-8"))
        lines += ["## What each costs", "", machine_line(measured["machine"]), "", *measured["table"], ""]
    return lines, found


def sections(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that can be compared, by a title that says what they share; frozen backbones first."""
    found: dict[str, list[Row]] = {}
    trained = [row for row in rows if row["set"] != "untrained"]
    for chosen in SETS:
        for settings in dict.fromkeys(_settings(row) for row in trained if row["set"] == chosen):
            _, backbone, steps, examples, queries, length = settings
            title = (
                f"{SETS[chosen].title}: {backbone.rpartition('/')[2]}, {steps:,} steps at most, {examples:,} training "
                f"examples at most, {queries:,} test queries at most, {length} tokens"
            )
            here = [row for row in trained if _settings(row) == settings]
            tasks = {row["task"] for row in here}
            untrained = [
                row
                for row in rows
                if row["set"] == "untrained"
                and row["task"] in tasks
                and (row["backbone"], row["queries"], row["length"]) == (backbone, queries, length)
            ]
            found[title] = [*untrained, *here]
    return found


def _settings(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in SETTINGS)


def means(rows: list[Row], methods: Sequence[str]) -> dict[str, Any]:
    """By method: the mean, spread and seeds of each task, and the mean over the tasks that all methods have run."""
    tasks = [name for name in RANKINGS if any(row["task"] == name for row in rows)]
    made: dict[str, Any] = {}
    for method in [name for name in methods if any(row["method"] == name for row in rows)]:
        cells = {}
        for task in tasks:
            values = [row["metrics"]["Success@1"] for row in rows if (row["method"], row["task"]) == (method, task)]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else None
                cells[task] = {"mean": statistics.mean(values), "spread": spread, "seeds": len(values)}
        made[method] = {"tasks": cells}
    begun, finished = comparable({method: list(row["tasks"]) for method, row in made.items()}, tasks)
    for method, row in made.items():
        compared = method in begun and finished
        row["all"] = statistics.mean(row["tasks"][task]["mean"] for task in finished) if compared else None
    return made


def comparable(ran: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Methods whose means can be compared, and the tasks that all of them have run.

    Methods that have run half of the tasks of the one that has run most, or fewer, are left out.
    """
    most = max(map(len, ran.values()), default=0)
    begun = [method for method, there in ran.items() if 2 * len(there) > most]
    return begun, [task for task in tasks if all(task in ran[method] for method in begun)]


def _table(made: dict[str, Any], tasks_across: bool) -> list[str]:
    """Methods and tasks. The main table has tasks down, ablations have many methods on few tasks."""
    tasks = [name for name in RANKINGS if any(name in row["tasks"] for row in made.values())]
    columns = {
        method: [
            *(_cell(row["tasks"].get(task)) for task in tasks),
            "–" if row["all"] is None else f"**{row['all']:.3f}**",
        ]
        for method, row in made.items()
    }
    if tasks_across:
        return table(("", *tasks, "**mean**"), [(method, *cells) for method, cells in columns.items()])
    return table(("", *columns), zip([*tasks, "**mean**"], *columns.values(), strict=True))


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    return f"{cell['mean']:.3f}" + ("" if cell["spread"] is None else f" ±{cell['spread']:.3f} ({cell['seeds']})")


def notes(rows: list[Row], details: bool) -> list[str]:
    """The sizes of the tasks, the seeds and other measures; and the entropy of the attention."""
    lines = []
    trained = [row for row in rows if row["set"] != "untrained"]
    for task in RANKINGS if details else ():
        of_task = [row for row in rows if row["task"] == task]
        if of_task:
            seeds = sorted({row["seed"] for row in trained if row["task"] == task})
            others = [name for name in of_task[0]["metrics"] if name != "Success@1"]
            by_method = {row["method"]: row for row in of_task if row["seed"] in (0, *seeds[:1])}
            values = "; ".join(
                f"{name} " + ", ".join(f"{method} {row['metrics'][name]:.3f}" for method, row in by_method.items())
                for name in others
            )
            lines.append(
                f"- {task}: {of_task[0]['test_queries']} queries, {of_task[0]['candidates']} documents each; seeds "
                f"{', '.join(map(str, seeds)) or '–'}. First seed: {values}."
            )
    entropies = _by_method(trained, "attention_entropy", "uniform_entropy")
    if entropies:
        values = ", ".join(f"{name} {own:.2f} of {most:.2f}" for name, (own, most, _) in entropies.items())
        lines += [
            "",
            f"Entropy of the documents' attention over the codes, of the highest possible, in nats: {values}.",
        ]
    trained = [{**row, "R@1": row["metrics"]["Success@1"]} for row in trained]
    if averaged := _by_method(trained, "averaged", "R@1"):
        values = ", ".join(f"{name} {own:.3f} and {alone:.3f} ({n})" for name, (alone, own, n) in averaged.items())
        lines += ["", f"R@1 with the attention, and with the same codes averaged (in brackets the runs): {values}."]
    return lines


def _by_method(rows: list[Row], first: str, second: str) -> dict[str, tuple[float, float, int]]:
    """By method, the means of two fields over the rows that have the first, and the number of these rows."""
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows if first in row):
        own = [row for row in rows if row["method"] == method and first in row]
        found[method] = (*(statistics.mean(row[name] for row in own) for name in (first, second)), len(own))
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """For each method of the first main table, its distance to the mean-pooled bi-encoder, a dot a task."""
    from matplotlib import colormaps

    title, groups = next(iter(found.items()))
    base = groups["main"].get("bi", {"tasks": {}})["tasks"]
    shown = {name: row for name, row in groups["main"].items() if name not in ("bm25", "bi")}
    tasks = list(base)
    colours = dict(zip(tasks, colormaps["tab20"].colors, strict=False))
    with figure(path, 1, 8, 0.45 * len(shown) + 1.6) as (_, (axes,)):
        for place, row in enumerate(shown.values()):
            both = [task for task in tasks if task in row["tasks"]]
            gaps = [100 * (row["tasks"][task]["mean"] - base[task]["mean"]) for task in both]
            for task, gap in zip(both, gaps, strict=True):
                axes.plot(gap, place, "o", color=colours[task], label=task if place == 0 else None)
            if 2 * len(gaps) > len(tasks):  # a mean over a few tasks cannot be compared with the others
                axes.plot(statistics.mean(gaps), place, "|", color="black", markersize=18, markeredgewidth=2)
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_yticks(range(len(shown)), list(shown))
        axes.invert_yaxis()
        axes.set_xlabel("points of R@1 above a bi-encoder with mean and map; the black line is the mean over the tasks")
        axes.set_title(title.partition(":")[0], fontsize=10)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
