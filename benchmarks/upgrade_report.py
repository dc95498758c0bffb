"""Tables and a picture of the runs that `upgrade.py` has written down."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from machine import machine
from quality_report import comparable

BEFORE = "as it comes"


def write(rows: list[dict[str, Any]], results: Path) -> dict[str, Any]:
    """Write upgrade.{json,md,png}, and give the summary: by method and pairs, the mean gain in points of R@1."""
    about = machine("upgrade.py", "torch", "sentence-transformers", "transformers", "llama-index-embeddings-adapter")
    before = {row["task"]: row["R@1"] for row in rows if row["method"] == BEFORE}
    methods = [name for name in dict.fromkeys(row["method"] for row in rows) if name != BEFORE]
    numbers = sorted({row["pairs"] for row in rows if row["method"] != BEFORE})
    lines = [
        "# Upgrade",
        "",
        ", ".join(f"`{name}: {value}`" for name, value in about.items()),
        "",
        "R@1 of the test queries, as trained, and, where held-out pairs did not confirm it and it was refused, in "
        "brackets: what is then kept is the figure of before. One thread; seconds are of the whole command.",
        "",
    ]
    gains: dict[str, Any] = {}
    for number in numbers:
        shown = [name for name in methods if any(_of(rows, task, name, number) for task in before)]
        lines += [
            f"## {number:,} pairs",
            "",
            "| | before | " + " | ".join(shown) + " |",
            "|---" * (len(shown) + 2) + "|",
        ]
        for task, value in before.items():
            cells = [_cell(_of(rows, task, name, number)) for name in shown]
            lines.append(f"| {task} | {value:.3f} | " + " | ".join(cells) + " |")
        ran = {name: [task for task in before if _of(rows, task, name, number)] for name in shown}
        begun, tasks = comparable(ran, list(before))
        for title, kept in (("mean gain, as trained", False), ("mean gain, as kept", True)):
            cells = []
            for name in shown:
                points = [_gain(_of(rows, task, name, number), before[task], kept) for task in tasks if name in begun]
                gain = statistics.mean(points) if points else None
                gains.setdefault(name, {}).setdefault(str(number), {})["kept" if kept else "trained"] = gain
                cells.append("–" if gain is None else f"**{gain:+.1f}**")
            lines.append(f"| **{title}, points** | | " + " | ".join(cells) + " |")
        seconds = [
            statistics.median(row["seconds"] for task in before for row in _of(rows, task, name, number))
            for name in shown
        ]
        lines += ["| median seconds | | " + " | ".join(f"{value:.0f}" for value in seconds) + " |", ""]
    (results / "upgrade.md").write_text("\n".join(lines), encoding="utf-8")
    summary = {"machine": about, "before": before, "gains": gains}
    (results / "upgrade.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    _draw(rows, results / "upgrade.png")
    return gains


def _of(rows: list[dict[str, Any]], task: str, method: str, pairs: int) -> list[dict[str, Any]]:
    """A cell's runs, one a seed."""
    return [row for row in rows if (row["task"], row["method"], row["pairs"]) == (task, method, pairs)]


def _cell(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return "–"
    value = f"{statistics.mean(row['R@1'] for row in runs):.3f}"
    return value if all(row["confirmed"] for row in runs) else f"({value})"


def _gain(runs: list[dict[str, Any]], before: float, kept: bool) -> float:
    return 100 * statistics.mean(0 if kept and not row["confirmed"] else row["R@1"] - before for row in runs)


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Validation MRR against seconds of training, from the model as it comes; a panel a task, of the most pairs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    told = [row for row in rows if row.get("history")]
    tasks = list(dict.fromkeys(row["task"] for row in told))
    if not tasks:
        return
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(3.1 * len(tasks), 3.2), layout="constrained", squeeze=False)
    methods = list(dict.fromkeys(row["method"] for row in told))
    styles = {100: ":", 1_000: "--", 10_000: "-"}
    for panel, task in zip(axes[0], tasks, strict=True):
        for row in told:
            if row["task"] == task and row["seed"] == 0:
                times, values = zip(*row["history"], strict=True)
                panel.plot(
                    [times[0] / 2, *times],  # of a logarithmic axis; it begins at 0
                    [row["before"], *values],
                    styles.get(row["pairs"], "-."),
                    color=f"C{methods.index(row['method'])}",
                    label=f"{row['method']}, {row['pairs']:,} pairs",
                )
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.set_title(task, fontsize=9)
        panel.set_xlabel("seconds of training, one thread")
    axes[0][0].set_ylabel("MRR@100 of validation pairs")
    handles = {label: line for panel in axes[0] for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
