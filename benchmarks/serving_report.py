"""What `serving.py` measured, as tables, a picture and a summary.

Knows the figures it is given; measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import put

COLOURS = {"cached": "#2a7", "first time": "#2a7", "cross-encoder, bf16": "#888", "cross-encoder": "#888"}


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures that the goals speak of."""
    out: dict[str, Any] = {}
    if "rerank" in results:
        ms = results["rerank"]["ms"]
        out["rerank, ms"] = {name: round(value, 1) for name, value in ms.items()}
        out["of the cross-encoder's time"] = {
            name: round(ms[name] / ms["cross-encoder"], 4) for name in ("first time", "cached")
        }
    if "load" in results:
        row = results["load"]
        out["load"] = {name: row[name] for name in ("clients", "seconds", "requests", "errors", "wrong")} | {
            "a second": round(row["a second"], 1),
            "ms": {name: round(value, 1) for name, value in row["ms"].items()},
            "MB": {name: round(value) for name, value in row["MB"].items()},
        }
    if "overload" in results:
        row = results["overload"]
        out["overload"] = {name: row[name] for name in ("answered", "refused", "other", "ready afterwards")} | {
            "seconds": {name: round(value, 2) for name, value in row["seconds of those answered"].items()}
        }
    return out


def markdown(results: dict[str, Any]) -> str:
    """Tables of everything."""
    lines = ["# The server", ""]
    if "machine" in results:
        lines += ["`" + "`, `".join(f"{name}: {value}" for name, value in results["machine"].items()) + "`", ""]
    if "rerank" in results:
        lines += _rerank(results["rerank"])
    if "load" in results:
        lines += _load(results["load"])
    if "overload" in results:
        lines += _overload(results["overload"])
    return "\n".join(lines)


def _rerank(row: dict[str, Any]) -> list[str]:
    ms, spread = row["ms"], row["spread"]
    labels = {
        "cross-encoder": "sentence-transformers, a cross-encoder of the same backbone",
        "cross-encoder, bf16": "the same in bf16",
        "first time": "**polyencoders serve, documents never seen**",
        "cached": "**polyencoders serve, documents seen before, another query**",
        "cached, no HTTP": "the model alone: a query encoded and scored with vectors that are there",
    }
    return [
        f"## Reranking {row['candidates']} candidates of about {row['words']} words",
        "",
        f"Over HTTP, in turn, medians of {row['rounds']} rounds with documents of their own.",
        "",
        "| | ms | least | most | of the cross-encoder's time |",
        "|---|---|---|---|---|",
        *(
            f"| {label} | {ms[name]:,.1f} | {spread[name][0]:,.1f} | {spread[name][1]:,.1f} | "
            f"1/{ms['cross-encoder'] / ms[name]:.1f} |"
            for name, label in labels.items()
            if name in ms
        ),
        "",
    ]


def _load(row: dict[str, Any]) -> list[str]:
    ms, memory = row["ms"], " and ".join(f"{value:,.0f}" for value in row["MB"].values())
    return [
        f"## {row['clients']} clients for {row['seconds']} seconds",
        "",
        "Three of five requests rerank 20 candidates of about 60 words, three of ten search an index, one of ten "
        "embeds five texts; each client asks again as soon as it is answered. Every answer is held against that of the "
        "same request alone. The clients share the machine's cores.",
        "",
        "| | |",
        "|---|---|",
        f"| requests | {row['requests']:,} |",
        f"| a second | {row['a second']:,.1f} |",
        *(f"| {name}, ms | {value:,.0f} |" for name, value in ms.items()),
        f"| errors | {row['errors']} |",
        f"| answers that differ | {row['wrong']} |",
        f"| memory in the second and in the last quarter, MB | {memory} |",
        "",
    ]


def _overload(row: dict[str, Any]) -> list[str]:
    took = row["seconds of those answered"]
    return [
        f"## More than it can do: {row['clients']} clients with texts never seen, for {row['seconds']} seconds",
        "",
        "Each asks for 10 candidates of about 60 words, and after a refusal again 0.2 s later, sooner than it is told. "
        f"`--max-wait {row['may wait']:g} --max-requests 128`.",
        "",
        "| | |",
        "|---|---|",
        f"| answered | {row['answered']:,} |",
        *(f"| of those, {name}, s | {value:.2f} |" for name, value in took.items()),
        f"| refused with 429 | {row['refused']:,} |",
        *(f"| of those, {name}, ms | {value:,.0f} |" for name, value in row["ms of those refused"].items()),
        f"| told to come back after, s | {row['retry after'][0]} to {row['retry after'][1]} |",
        f"| anything else | {row['other']} |",
        f"| ready afterwards | {'yes' if row['ready afterwards'] else 'no'} |",
        "",
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Bars of the times of a request; requests a second and memory over the load."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = 1 + ("load" in results)
    figure, ((left, *rest),) = pyplot.subplots(
        1, panels, figsize=(5.5 * panels, 3.2), layout="constrained", squeeze=False
    )
    if "rerank" in results:
        row = results["rerank"]
        names = [name for name in COLOURS if name in row["ms"]]
        bars = left.barh(names, [row["ms"][name] for name in names], color=[COLOURS[name] for name in names])
        left.bar_label(bars, [f"{row['ms'][name]:,.0f} ms" for name in names], padding=4)
        left.set(xscale="log", xlabel="ms", title=f"Reranking {row['candidates']} candidates of {row['words']} words")
        left.set_xlim(1, 3 * max(row["ms"].values()))
    for right in rest:
        row = results["load"]
        right.plot(row["by second"], color="#2a7", label="requests answered a second")
        right.set(xlabel="seconds", ylim=(0, None), title=f"{row['clients']} clients")
        memory = right.twinx()
        memory.plot(row["memory"], color="#888", label="memory, MB")
        memory.set_ylim(0, None)
        lines = [*right.lines, *memory.lines]
        right.legend(lines, [line.get_label() for line in lines], loc="lower right")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def into_pages(results: dict[str, Any]) -> None:
    """The few rows that the README and docs/serving.md show."""
    row = results["rerank"]
    ms = row["ms"]
    lines = [
        f"| {row['candidates']} candidates of about {row['words']} words | ms | |",
        "|---|---|---|",
        f"| a cross-encoder of the same backbone, in process | {ms['cross-encoder']:,.0f} | 1 |",
    ]
    for name, label in (("first time", "documents never seen"), ("cached", "documents seen before")):
        lines.append(f"| **over HTTP, {label}** | {ms[name]:,.0f} | 1/{ms['cross-encoder'] / ms[name]:.3g} |")
    put("serving", lines, "README.md", "docs/serving.md")
