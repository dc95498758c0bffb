"""The report of `upgrade.py`: its tables and its figure."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from quality_report import comparable
from report import figure, table

Row = dict[str, Any]
BEFORE = "as it comes"


def tables(rows: list[Row]) -> tuple[list[str], dict[str, Any]]:
    """The tables, and by method and number of pairs, the mean gain in points of R@1 as trained and as kept."""
    before = {row["task"]: row["R@1"] for row in rows if row["method"] == BEFORE}
    methods = [name for name in dict.fromkeys(row["method"] for row in rows) if name != BEFORE]
    lines = [
        "R@1 of the test queries, as trained. In brackets: held-out pairs did not confirm it, it was refused, and the "
        "figure of before is kept. One thread; seconds are of the whole command.",
        "",
    ]
    gains: dict[str, Any] = {name: {} for name in methods}
    for number in sorted({row["pairs"] for row in rows if row["method"] != BEFORE}):
        runs = {(task, name): _runs(rows, task, name, number) for task in before for name in methods}
        shown = [name for name in methods if any(runs[task, name] for task in before)]
        cells = [(task, f"{value:.3f}", *(_cell(runs[task, name]) for name in shown)) for task, value in before.items()]
        ran = {name: [task for task in before if runs[task, name]] for name in shown}
        begun, tasks = comparable(ran, list(before))
        for title, kept in (("trained", False), ("kept", True)):
            for name in shown:
                points = [_gain(runs[task, name], before[task], kept) for task in tasks if name in begun]
                gains[name].setdefault(str(number), {})[title] = statistics.mean(points) if points else None
            means = [gains[name][str(number)][title] for name in shown]
            means = ["–" if gain is None else f"**{gain:+.1f}**" for gain in means]
            cells.append((f"**mean gain, as {title}, points**", "", *means))
        seconds = [statistics.median(row["seconds"] for task in before for row in runs[task, name]) for name in shown]
        cells.append(("median seconds", "", *(f"{value:.0f}" for value in seconds)))
        lines += [f"## {number:,} pairs", "", *table(("", "before", *shown), cells)]
    return lines, {"before": before, "gains": gains}


def _runs(rows: list[Row], task: str, method: str, pairs: int) -> list[Row]:
    """The runs of a cell, one a seed."""
    return [row for row in rows if (row["task"], row["method"], row["pairs"]) == (task, method, pairs)]


def _cell(runs: list[Row]) -> str:
    if not runs:
        return "–"
    value = f"{statistics.mean(row['R@1'] for row in runs):.3f}"
    return value if all(row["confirmed"] for row in runs) else f"({value})"


def _gain(runs: list[Row], before: float, kept: bool) -> float:
    return 100 * statistics.mean(0 if kept and not row["confirmed"] else row["R@1"] - before for row in runs)


def draw(rows: list[Row], path: Path) -> None:
    """Validation MRR over seconds of training, from the model as it comes; a panel a task."""
    drawn = [row for row in rows if row.get("history") and row["seed"] == 0]
    tasks = list(dict.fromkeys(row["task"] for row in drawn))
    if not tasks:
        return
    methods = list(dict.fromkeys(row["method"] for row in drawn))
    styles = {100: ":", 1_000: "--", 10_000: "-"}
    with figure(path, len(tasks), 3.1, 3.2) as (whole, panels):
        for panel, task in zip(panels, tasks, strict=True):
            for row in (row for row in drawn if row["task"] == task):
                times, values = zip(*row["history"], strict=True)
                panel.plot(
                    [times[0] / 2, *times],  # training begins at 0, which a logarithmic axis does not have
                    [row["before"], *values],
                    styles.get(row["pairs"], "-."),
                    color=f"C{methods.index(row['method'])}",
                    label=f"{row['method']}, {row['pairs']:,} pairs",
                )
            panel.set(xscale="log", xlabel="seconds of training, one thread")
            panel.set_title(task, fontsize=9)
            panel.xaxis.set_minor_formatter("")
        panels[0].set_ylabel("MRR@100 of validation pairs")
        handles = {
            name: line for panel in panels for line, name in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        whole.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
