"""The picture of a comparison: accuracy against milliseconds a query. Needs matplotlib (`polyencoders[plot]`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyencoders.errors import MissingExtraError
from polyencoders.files import whole_file


def draw(summary: dict[str, Any], path: Path, size: str = "1000") -> None:
    """Draw the first metric of every row against its time for one query and `size` documents, on a log scale.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    rows = [row for row in summary["rows"] if size in row["ms"]]
    if not rows:
        return
    measure = next(iter(rows[0]["metrics"]))
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    families = {"bi": "#4477aa", "poly": "#ee6677", "cross": "#228833", "arc": "#aa8800"}
    points = []
    for row in rows:
        latency, metric = row["ms"][size], row["metrics"][measure]
        milliseconds = latency["encoding"] + latency["scoring"]
        frozen = "frozen" in row["name"]
        colour = families[row["name"].split("-")[0].split(",")[0]]
        axes.errorbar(
            milliseconds,
            metric["mean"],
            yerr=_error(metric),
            fmt="s" if frozen else "o",
            color=colour,
            mfc="white" if frozen else colour,
            capsize=3,
            elinewidth=0.8,
        )
        points.append((milliseconds, metric["mean"], row["name"].replace(", frozen backbone", " (frozen)")))
    axes.set_xscale("log")
    _label(axes, points)
    base = next((row for row in summary["rows"] if not row["ms"]), None)
    if base is not None:
        axes.axhline(base["metrics"][measure]["mean"], color="grey", linestyle=":", linewidth=1)
        axes.annotate(
            base["name"],
            (1, base["metrics"][measure]["mean"]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="grey",
            fontsize=8,
        )
    axes.set_xlabel(f"milliseconds a query, {int(size):,} documents (encoding and scoring)")
    axes.set_ylabel(measure)
    axes.set_title(f"{summary['data']}, {summary['backbone']}", fontsize=10)
    axes.grid(alpha=0.2)
    with whole_file(path) as scratch:
        figure.savefig(scratch, dpi=150, format="png")
    pyplot.close(figure)


def _label(axes: Any, points: list[tuple[float, float, str]]) -> None:
    """Names beside the points, moved apart where points are close: to the right in order of height."""
    low, high = axes.get_ylim()
    least = (high - low) * 0.035
    right = max(x for x, _, _ in points)
    last: dict[bool, float] = {}
    for x, y, name in sorted(points, key=lambda point: point[1]):
        far = x > right / 10 and right > 20 * min(point[0] for point in points)
        height = max(y, last.get(far, -1.0) + least)
        last[far] = height
        axes.annotate(
            name,
            (x, y),
            xytext=(x / 1.25 if far else x * 1.25, height),
            ha="right" if far else "left",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "lightgrey", "linewidth": 0.6} if height != y else None,
        )


def _error(metric: dict[str, Any]) -> Any:
    if metric["spread"] is not None:
        return metric["spread"]
    return [[metric["mean"] - metric["low"]], [metric["high"] - metric["mean"]]]
