"""The report of `serving.py`: its tables, its figure and its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import figure, put, table

COLOURS = {"cached": "#2a7", "first time": "#2a7", "cross-encoder, bf16": "#888", "cross-encoder": "#888"}


def summary(results: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if "rerank" in results:
        ms = results["rerank"]["ms"]
        out["rerank, ms"] = {name: round(value, 1) for name, value in ms.items()}
        fractions = {name: round(ms[name] / ms["cross-encoder"], 4) for name in ("first time", "cached")}
        out["of the cross-encoder's time"] = fractions
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


def lines(results: dict[str, Any]) -> list[str]:
    return [
        *(_rerank(results["rerank"]) if "rerank" in results else ()),
        *(_load(results["load"]) if "load" in results else ()),
        *(_overload(results["overload"]) if "overload" in results else ()),
    ]


def _rerank(row: dict[str, Any]) -> list[str]:
    labels = {
        "cross-encoder": "sentence-transformers, a cross-encoder of the same backbone",
        "cross-encoder, bf16": "the same in bf16",
        "first time": "**polyencoders serve, documents never seen**",
        "cached": "**polyencoders serve, documents seen before, another query**",
        "cached, no HTTP": "the model alone: a query encoded and scored with vectors that are there",
    }
    rows = [
        (
            label,
            *(f"{value:,.1f}" for value in (row["ms"][name], *row["spread"][name])),
            f"1/{row['ms']['cross-encoder'] / row['ms'][name]:.1f}",
        )
        for name, label in labels.items()
        if name in row["ms"]
    ]
    return [
        f"## Reranking {row['candidates']} candidates of about {row['words']} words",
        "",
        f"Over HTTP, in turn, medians of {row['rounds']} rounds with documents of their own.",
        "",
        *table(("", "ms", "least", "most", "of the cross-encoder's time"), rows),
    ]


def _load(row: dict[str, Any]) -> list[str]:
    memory = " and ".join(f"{value:,.0f}" for value in row["MB"].values())
    rows = [
        ("requests", f"{row['requests']:,}"),
        ("a second", f"{row['a second']:,.1f}"),
        *((f"{name}, ms", f"{value:,.0f}") for name, value in row["ms"].items()),
        ("errors", row["errors"]),
        ("answers that differ", row["wrong"]),
        ("memory in the second and in the last quarter, MB", memory),
    ]
    return [
        f"## {row['clients']} clients for {row['seconds']} seconds",
        "",
        "Three of five requests rerank 20 candidates of about 60 words, three of ten search an index, one of ten "
        "embeds five texts; each client asks again as soon as it is answered. Every answer is compared with that of "
        "the same request alone. The clients share the machine's cores.",
        "",
        *table(("", ""), rows),
    ]


def _overload(row: dict[str, Any]) -> list[str]:
    rows = [
        ("answered", f"{row['answered']:,}"),
        *((f"of those, {name}, s", f"{value:.2f}") for name, value in row["seconds of those answered"].items()),
        ("refused with 429", f"{row['refused']:,}"),
        *((f"of those, {name}, ms", f"{value:,.0f}") for name, value in row["ms of those refused"].items()),
        ("told to come back after, s", f"{row['retry after'][0]} to {row['retry after'][1]}"),
        ("anything else", row["other"]),
        ("ready afterwards", "yes" if row["ready afterwards"] else "no"),
    ]
    return [
        f"## More than it can do: {row['clients']} clients with texts never seen, for {row['seconds']} seconds",
        "",
        "Each asks for 10 candidates of about 60 words, and after a refusal again 0.2 s later, sooner than it is told. "
        f"`--max-wait {row['may wait']:g} --max-requests 128`.",
        "",
        *table(("", ""), rows),
    ]


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of the times of a request; requests a second and memory over the load."""
    with figure(path, 1 + ("load" in results), 5.5, 3.2) as (drawn, (left, *rest)):
        if "rerank" in results:
            row = results["rerank"]
            names = [name for name in COLOURS if name in row["ms"]]
            bars = left.barh(names, [row["ms"][name] for name in names], color=[COLOURS[name] for name in names])
            left.bar_label(bars, [f"{row['ms'][name]:,.0f} ms" for name in names], padding=4)
            title = f"Reranking {row['candidates']} candidates of {row['words']} words"
            left.set(xscale="log", xlabel="ms", title=title, xlim=(1, 3 * max(row["ms"].values())))
        for right in rest:
            row = results["load"]
            right.plot(row["by second"], color="#2a7", label="requests answered a second")
            right.set(xlabel="seconds", ylim=(0, None), title=f"{row['clients']} clients")
            memory = right.twinx()
            memory.plot(row["memory"], color="#888", label="memory, MB")
            memory.set_ylim(0, None)
            curves = [*right.lines, *memory.lines]
            right.legend(curves, [curve.get_label() for curve in curves], loc="lower right")
        for axes in drawn.axes:
            axes.spines[["top", "right"]].set_visible(False)


def into_pages(results: dict[str, Any]) -> None:
    row = results["rerank"]
    cross = row["ms"]["cross-encoder"]
    rows = [("a cross-encoder of the same backbone, in process", f"{cross:,.0f}", 1)]
    for name, label in (("first time", "documents never seen"), ("cached", "documents seen before")):
        rows.append((f"**over HTTP, {label}**", f"{row['ms'][name]:,.0f}", f"1/{cross / row['ms'][name]:.3g}"))
    header = (f"{row['candidates']} candidates of about {row['words']} words", "ms", "")
    put("serving", table(header, rows), "docs/serving.md")
