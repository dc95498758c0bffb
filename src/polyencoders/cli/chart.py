"""The picture of a comparison: accuracy against milliseconds a query. Needs matplotlib (`polyencoders[plot]`)."""

from itertools import cycle
from pathlib import Path
from typing import Any

from polyencoders.files import whole_file

_COLOURS = {"bi": "#4477aa", "poly": "#cc3355", "cross": "#228833", "arc": "#aa8800"}
_MARKERS = "os^Dv<>P"


def draw(summary: dict[str, Any], path: Path, size: str = "1000") -> None:
    """Draw the first metric of every row against its time for one query and `size` documents, on a log scale.

    Each family of architectures has a colour, and each of its rows a marker, hollow where the backbone was frozen; the
    ninth has the first one again. The names are in the legend, in order of the metric, as they would overlap beside the
    points.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in summary["rows"] if size in row["ms"]]
    if not rows:
        return
    measure = next(iter(rows[0]["metrics"]))
    figure, axes = pyplot.subplots(figsize=(9, 4.8), layout="constrained")
    markers = {family: cycle(_MARKERS) for family in _COLOURS}
    for row in sorted(rows, key=lambda row: -row["metrics"][measure]["mean"]):
        metric, latency = row["metrics"][measure], row["ms"][size]
        milliseconds = latency["encoding"] + latency["scoring"]
        family = row["name"].split("-")[0].split(" ")[0]
        mean, error = metric["mean"], metric["spread"]
        if error is None and metric["high"] is not None:
            error = [[mean - metric["low"]], [metric["high"] - mean]]
        style: dict[str, Any] = {"markersize": 7, "elinewidth": 0.6, "capsize": 2, "linestyle": "none"}
        axes.errorbar(
            milliseconds,
            mean,
            yerr=error,
            fmt=next(markers[family]),
            color=_COLOURS[family],
            mfc="white" if "(frozen)" in row["name"] else _COLOURS[family],
            label=f"{row['name']}: {mean:.3f}, {milliseconds:,.0f} ms",
            **style,
        )
    for row in summary["rows"]:
        if not row["ms"]:
            mean = row["metrics"][measure]["mean"]
            axes.axhline(mean, color="grey", linestyle=":", linewidth=1, label=f"{row['name']}: {mean:.3f}")
    axes.set_xscale("log")
    axes.set_xlabel(f"milliseconds a query, {int(size):,} documents (encoding and scoring)")
    axes.set_ylabel(f"{measure}, with its spread over seeds or 95% interval", fontsize=9)
    axes.set_title(f"{summary['data']}, {summary['backbone']}", fontsize=10)
    axes.grid(alpha=0.2)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    with whole_file(path) as scratch:
        figure.savefig(scratch, dpi=150, format="png")
    pyplot.close(figure)
