"""Tables and a picture of the runs that `quality.py` has written down."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import machine
from quality_methods import GROUPS, SETS
from quality_tasks import RANKINGS

TABLES = {
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
"""What rows of one section share."""


def write(rows: list[dict[str, Any]], results: Path) -> dict[str, Any]:
    """Write quality.{json,md,png}, and give the summary: by section and method, the mean over tasks and seeds."""
    packages = ("torch", "sentence-transformers", "transformers", "bm25s", "numpy")
    found = {"machine": machine("quality.py", *packages), "sections": {}}
    lines = [
        "# Quality",
        "",
        ", ".join(f"`{name}: {value}`" for name, value in found["machine"].items()),
        "",
        "The right answer at first place (R@1; where a query has several right answers, any of them). ± is the "
        "standard deviation over seeds, in brackets how many. *Mean* is over the tasks on which "
        "all methods of a table that have one have run.",
        "",
    ]
    drawn = False
    for title, section in sections(rows).items():
        lines += [f"## {title}", ""]
        found["sections"][title] = {}
        for group, methods in GROUPS.items():
            chosen = [row for row in section if row["method"] in methods]
            if group != "main":
                # Beside an ablation's own rows, those of the main table on the same tasks and with the same seeds.
                own = {(row["task"], row["seed"]) for row in chosen if row["method"] not in GROUPS["main"]}
                chosen = [row for row in chosen if (row["task"], row["seed"]) in own]
                if not own:
                    continue
            found["sections"][title][group] = table = means(chosen, methods)
            lines += [f"### {TABLES[group]}", ""] * (group != "main")
            lines += [
                *(markdown(table) if group == "main" else ablation(table)),
                "",
                *notes(chosen, details=group == "main"),
                "",
            ]
            if group == "main" and not drawn:
                draw(table, title.partition(":")[0], results / "quality.png")
                drawn = True
    lines += costs(results / "quality_costs.json")
    (results / "quality.md").write_text("\n".join(lines), encoding="utf-8")
    (results / "quality.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return {
        title: {group: {name: row["all"] for name, row in table.items()} for group, table in groups.items()}
        for title, groups in found["sections"].items()
    }


def sections(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows whose numbers may stand beside each other, by a title that says what they share, the frozen ones first."""
    found: dict[str, list[dict[str, Any]]] = {}
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


def _settings(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in SETTINGS)


def costs(path: Path) -> list[str]:
    """What `quality_costs.py` has measured, if it has."""
    if not path.exists():
        return []
    measured = json.loads(path.read_text(encoding="utf-8"))
    about = ", ".join(f"`{name}: {value}`" for name, value in measured["machine"].items())
    return ["## What each costs", "", about, "", *measured["table"], ""]


def means(rows: list[dict[str, Any]], methods: Sequence[str]) -> dict[str, Any]:
    """By method, in the order given: each task's mean, spread and seeds; and the mean over tasks that all have run."""
    tasks = [name for name in RANKINGS if any(row["task"] == name for row in rows)]
    table: dict[str, Any] = {}
    for method in [name for name in methods if any(row["method"] == name for row in rows)]:
        cells = {}
        for task in tasks:
            values = [row["metrics"]["Success@1"] for row in rows if (row["method"], row["task"]) == (method, task)]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else None
                cells[task] = {"mean": statistics.mean(values), "spread": spread, "seeds": len(values)}
        table[method] = {"tasks": cells}
    begun, finished = comparable({method: list(row["tasks"]) for method, row in table.items()}, tasks)
    for method, row in table.items():
        compared = method in begun and finished
        row["all"] = statistics.mean(row["tasks"][task]["mean"] for task in finished) if compared else None
    return table


def comparable(ran: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Methods whose means may stand beside each other, and the tasks these are of: those that all of them have run.

    Without methods that have hardly begun: half of the tasks of the one that has run most, or fewer.
    """
    most = max(map(len, ran.values()), default=0)
    begun = [method for method, there in ran.items() if 2 * len(there) > most]
    return begun, [task for task in tasks if all(task in ran[method] for method in begun)]


def markdown(table: dict[str, Any]) -> list[str]:
    """Tasks down, methods across: there are more tasks than a page is wide."""
    tasks = list(dict.fromkeys(task for row in table.values() for task in row["tasks"]))
    lines = ["| | " + " | ".join(table) + " |", "|---" * (len(table) + 1) + "|"]
    for task in tasks:
        cells = [_cell(row["tasks"].get(task)) for row in table.values()]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    whole = ["–" if row["all"] is None else f"**{row['all']:.3f}**" for row in table.values()]
    return [*lines, "| **mean** | " + " | ".join(whole) + " |"]


def ablation(table: dict[str, Any]) -> list[str]:
    """Methods down, tasks across: there are many methods on a few tasks."""
    tasks = [name for name in RANKINGS if any(name in row["tasks"] for row in table.values())]
    lines = ["| | " + " | ".join([*tasks, "**mean**"]) + " |", "|---" * (len(tasks) + 2) + "|"]
    for method, row in table.items():
        whole = "–" if row["all"] is None else f"**{row['all']:.3f}**"
        lines.append(f"| {method} | " + " | ".join([*(_cell(row["tasks"].get(task)) for task in tasks), whole]) + " |")
    return lines


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    return f"{cell['mean']:.3f}" + ("" if cell["spread"] is None else f" ±{cell['spread']:.3f} ({cell['seeds']})")


def notes(rows: list[dict[str, Any]], details: bool) -> list[str]:
    """What was ranked, the seeds, other measures; and the entropy of the attention."""
    lines = []
    trained = [row for row in rows if row["set"] != "untrained"]
    for task in RANKINGS if details else ():
        of_task = [row for row in rows if row["task"] == task]
        if of_task:
            seeds = sorted({row["seed"] for row in trained if row["task"] == task})
            others = [name for name in of_task[0]["metrics"] if name != "Success@1"]
            by_method = {row["method"]: row for row in of_task if row["seed"] in (0, *seeds[:1])}
            told = "; ".join(
                f"{name} " + ", ".join(f"{method} {row['metrics'][name]:.3f}" for method, row in by_method.items())
                for name in others
            )
            lines.append(
                f"- {task}: {of_task[0]['test_queries']} queries, {of_task[0]['candidates']} documents each; seeds "
                f"{', '.join(map(str, seeds)) or '–'}. First seed: {told}."
            )
    entropies: dict[str, list[tuple[float, float]]] = {}
    for row in trained:
        if "attention_entropy" in row:
            entropies.setdefault(row["method"], []).append((row["attention_entropy"], row["uniform_entropy"]))
    if entropies:
        told = ", ".join(
            f"{method} {statistics.mean(one for one, _ in pairs):.2f} of {statistics.mean(one for _, one in pairs):.2f}"
            for method, pairs in entropies.items()
        )
        lines += ["", f"Entropy of the documents' attention over the codes, of the highest there is, in nats: {told}."]
    alone = [row for row in trained if "averaged" in row]
    if alone:
        told = ", ".join(
            f"{method} {statistics.mean(row['metrics']['Success@1'] for row in rows):.3f} and "
            f"{statistics.mean(row['averaged'] for row in rows):.3f} ({len(rows)})"
            for method in dict.fromkeys(row["method"] for row in alone)
            if (rows := [row for row in alone if row["method"] == method])
        )
        lines += ["", f"R@1 with the attention, and of the same codes averaged (in brackets of how many runs): {told}."]
    return lines


def draw(table: dict[str, Any], title: str, path: Path) -> None:
    """Each method's distance to the mean-pooled bi-encoder, a dot a task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    base = table.get("bi", {"tasks": {}})["tasks"]
    shown = {name: row for name, row in table.items() if name not in ("bm25", "bi")}
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(shown) + 1.6), layout="constrained")
    tasks = list(base)
    colours = pyplot.get_cmap("tab20")
    for place, row in enumerate(shown.values()):
        both = [task for task in tasks if task in row["tasks"]]
        gaps = [100 * (row["tasks"][task]["mean"] - base[task]["mean"]) for task in both]
        for task, gap in zip(both, gaps, strict=True):
            axes.plot(gap, place, "o", color=colours(tasks.index(task)), label=task if place == 0 else None)
        if 2 * len(gaps) > len(tasks):  # a mean over a few would not stand beside the others
            axes.plot(statistics.mean(gaps), place, "|", color="black", markersize=18, markeredgewidth=2)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.set_xlabel("points of R@1 above a bi-encoder with mean and map; the black line is the mean over the tasks")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
