"""The summary of a comparison's runs, and its table for the terminal."""

import json
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from polyencoders.cli.latency import Latency

Row = dict[str, Any]


def groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group runs that differ only in the seed, by the name of their row in the table."""
    alike: dict[str, list[Row]] = {}
    for row in rows:
        same = {name: row[name] for name in ("architecture", "frozen", "steps", "settings")}
        alike.setdefault(json.dumps(same, sort_keys=True), []).append(row)
    named: dict[str, list[Row]] = {}
    for group in alike.values():
        first = group[0]
        what = ["frozen"] if first["frozen"] == ["backbone"] else [f"frozen: {name}" for name in first["frozen"]]
        name = f"{first['architecture']} ({', '.join(what)})" if what else first["architecture"]
        if name in named:
            name = f"{name}, {first['steps']:,} steps"
        while name in named:
            name += " again"  # with other settings, which compare.json holds
        named[name] = group
    return named


def summarised(rows: list[Row], latencies: "dict[str, dict[int, Latency]]") -> dict[str, Any]:
    """Summarise runs of one data set and backbone: means over seeds, their spread, times, and the machine."""
    table_rows = []
    for label, group in groups(rows).items():
        first, metrics = group[0], {}
        for name in first["metrics"]:
            over = {part: [row["metrics"][name][part] for row in group] for part in ("mean", "low", "high")}
            spread = statistics.stdev(over["mean"]) if len(group) > 1 else None
            metrics[name] = {part: _mean(values) for part, values in over.items()} | {"spread": spread}
        table_rows.append(
            {
                "name": label,
                "seeds": [row["seed"] for row in group],
                **{name: first[name] for name in ("steps", "options", "train_examples")},
                "minutes": statistics.mean(row["minutes"] for row in group),
                "metrics": metrics,
                "ms": {str(size): asdict(latency) for size, latency in latencies.get(label, {}).items()},
            }
        )
    return {"data": rows[0]["data"], "backbone": rows[0]["backbone"], "machine": machine(), "rows": table_rows}


def _mean(values: list[float | None]) -> float | None:
    """The mean over seeds; one query has no interval, so no ends."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def machine() -> dict[str, Any]:
    """The machine and the versions that figures were measured on."""
    import torch

    from polyencoders import __version__

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": capabilities.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "sentence-transformers", "transformers")},
        "polyencoders": __version__,
    }


def table(summary: dict[str, Any], metrics: bool = True, times: bool = True) -> Table:
    """Make the table for the terminal or, where that is narrow, half of it."""
    rows = summary["rows"]
    measures = list(dict.fromkeys(name for row in rows for name in row["metrics"])) if metrics else []
    sizes = list(dict.fromkeys(size for row in rows for size in row["ms"])) if times else []
    reach = [metric["high"] - metric["low"] for row in rows for metric in row["metrics"].values() if metric["high"]]
    shown = Table(
        title=f"{summary['data']}, {summary['backbone']}",
        caption=f"± is over seeds; over queries, 95% intervals reach about ±{max(reach, default=0) / 2:.3f}. "
        "ms: encoding a query + scoring that many documents; ~ is extrapolated from fewer",
    )
    shown.add_column("", no_wrap=True)
    for name in (*measures, "seeds", "steps", "minutes", *(f"ms for {int(size):,}" for size in sizes)):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row["name"],
            *(_metric(row["metrics"].get(name)) for name in measures),
            str(len(row["seeds"])),
            f"{row['steps']:,}",
            f"{row['minutes']:.1f}",
            *(_latency(row["ms"].get(size)) for size in sizes),
        )
    return shown


def _metric(metric: dict[str, Any] | None) -> str:
    """A mean and, of several seeds, its standard deviation."""
    if metric is None:
        return "–"
    return f"{metric['mean']:.3f}" + ("" if metric["spread"] is None else f" ±{metric['spread']:.3f}")


def _latency(latency: dict[str, Any] | None) -> str:
    """Milliseconds of encoding and of scoring."""
    if latency is None:
        return "–"
    scoring = f"{latency['scoring']:,.1f}" if latency["scoring"] < 100 else f"{latency['scoring']:,.0f}"
    return f"{latency['encoding']:.1f} + {'~' if latency['extrapolated'] else ''}{scoring}"
