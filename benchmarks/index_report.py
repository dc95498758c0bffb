"""The report of `index.py`: its tables, its figure and its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import figure, put, table

SCAN, FLAT = "exhaustive, PyTorch in blocks", "exhaustive, FAISS flat, one vector"
DEFAULT = 0.07
"""The fraction of the documents that a fast search looks at by default."""


def at_default(row: dict[str, Any]) -> dict[str, float]:
    """The point of a curve at the default fraction."""
    return next(point for point in row["curve"] if point["share"] == DEFAULT)


def summary(results: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if "adding" in results:
        rates, command = results["adding"]["rates"], results["adding"]["command"]
        out["texts a second"] = {name: round(rate) for name, rate in rates.items()}
        out["times sentence-transformers"] = round(rates["polyencoders"] / rates["sentence-transformers"], 2)
        out["command, documents a second"] = round(command["documents"] / command["seconds"])
    for row in results.get("corpus", []):
        out[f"n={row['n']}, m={row['m']}, ms"] = {name: round(ms, 2) for name, ms in row["ms"].items()}
        out[f"n={row['n']}, m={row['m']}, open and first answer, ms"] = [round(row["open"]), round(row["first"])]
    for row in results.get("million", []):
        fast, ms = at_default(row), row["ms"]
        peers = {"exhaustive": ms[SCAN], "FAISS flat": ms[FLAT]}
        out[f"n={row['n']}, m={row['m']}"] = {
            "exact, ms": round(ms["exact"], 2),
            "fast, ms": round(fast["ms"], 2),
            "recall": round(fast["recall"], 4),
            "certified": fast["certified"],
            **{f"exact / {name}": round(ms["exact"] / peer, 3) for name, peer in peers.items()},
            **{f"fast / {name}": round(fast["ms"] / peer, 3) for name, peer in {**peers, "exact": ms["exact"]}.items()},
        }
    if "memory" in results:
        out["MB"] = {name: results["memory"][name] for name in ("searching", "adding")}
    return out


def lines(results: dict[str, Any]) -> list[str]:
    return [
        *(_adding(results["adding"]) if "adding" in results else ()),
        *(_corpus(results["corpus"]) if "corpus" in results else ()),
        *(line for row in results.get("million", []) for line in _million(row)),
        *(_memory(results["memory"]) if "memory" in results else ()),
    ]


def _adding(row: dict[str, Any]) -> list[str]:
    theirs, command = row["rates"]["sentence-transformers"], row["command"]
    return [
        f"## Adding: {row['texts']:,} texts of the built-in replies, in turn",
        "",
        *table(
            ("", "texts a second", ""),
            [(name, f"{rate:,.0f}", f"{rate / theirs:.2f} times") for name, rate in row["rates"].items()],
        ),
        f"The smallest cosine of a vector with sentence-transformers' own: {row['least cosine']:.5f}.",
        "",
        f"`polyencoders index create` of all {command['documents']:,}: {command['seconds']:,.0f} s "
        f"({command['documents'] / command['seconds']:,.0f} a second, with reading, writing and the layout), "
        f"{command['MB']:,.0f} MB; the same command again, with nothing to encode: {command['again']:.0f} s.",
        "",
    ]


def _corpus(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for row in rows:
        for name, ms in row["ms"].items():
            ours = name in ("exact", "fast")
            label = f"**polyencoders, {name}, m = {row['m']}**" if ours else f"{name}, one vector"
            cells.append((label, f"{ms:.2f}", f"{row['recall'][name]:.3f}"))
    opened = ", ".join(f"{row['open']:.0f} and {row['first']:.0f}" for row in rows)
    return [
        f"## Searching the {rows[0]['n']:,} built-in replies, one query, ms",
        "",
        *table(("", "ms", "recall@10 of its own exact search"), cells),
        f"From opening to ready, and to the first answer, ms: {opened}.",
        "",
    ]


def _million(row: dict[str, Any]) -> list[str]:
    scan, flat, exact = row["ms"][SCAN], row["ms"][FLAT], row["ms"]["exact"]

    def cells(name: str, ms: float, *quality: str) -> tuple[str, ...]:
        return name, f"{ms:.2f}", f"{ms / scan:.4f}", f"{ms / flat:.3f}", f"{ms / exact:.2f}", *quality

    rows = [cells(SCAN, scan, "1", "all", "0"), cells(FLAT, flat, *"–––"), cells("**exact**", exact, "1", "all", "0")]
    for point in row["curve"]:
        name = f"fast, {point['share']:.2%} of the documents"
        name = f"**{name}** (default)" if point["share"] == DEFAULT else name
        quality = f"{point['recall']:.4f}", f"{point['certified']:.0%}", f"{point['error']:.3f}"
        rows.append(cells(name, point["ms"], *quality))
    for point in row["probes"]:
        name = f"FAISS IVF, one vector, {point['nprobe']} probes"
        rows.append(cells(name, point["ms"], f"{point['recall']:.4f}", "–", "–"))
    header = ("", "ms", "of the exhaustive scan", "of FAISS flat", "of exact", "recall@10", "certified")
    title = f"## {row['n']:,} documents, m = {row['m']}, {row['queries']} queries"
    return [title, "", *table((*header, "mean error bound"), rows)]


def _memory(row: dict[str, Any]) -> list[str]:
    taken = {
        "imports alone": row["imports alone"],
        f"searching {row['n']:,} documents": row["searching"],
        **{f"adding {int(number):,} documents": one for number, one in row["adding"].items()},
    }
    rows = [(name, f"{one['peak MB']:,.0f}", f"{one['of its own']:,.0f}") for name, one in taken.items()]
    return ["## Memory of a process, MB", "", *table(("", "peak", "without mapped files"), rows)]


def into_readme(results: dict[str, Any]) -> None:
    rows = results["million"]
    recalls = " / ".join(f"{at_default(row)['recall']:.3f}" for row in rows)
    shown = [
        ("**exact**, proven", *(f"{row['ms']['exact']:.1f}" for row in rows)),
        (f"**fast** (recall@10 {recalls})", *(f"{at_default(row)['ms']:.1f}" for row in rows)),
        ("every score, PyTorch in blocks", *(f"{row['ms'][SCAN]:.0f}" for row in rows)),
        ("FAISS flat, a bi-encoder's vector", *(f"{row['ms'][FLAT]:.1f}" for row in rows)),
    ]
    header = (f"one query, {rows[0]['n']:,} documents, ms", *(f"m = {row['m']}" for row in rows))
    put("index", table(header, shown), "docs/the-index.md")


def draw(results: dict[str, Any], path: Path) -> None:
    """Recall and certificates, over time and over the fraction of the documents."""
    rows = results["million"]
    with figure(path, 2, 5.5, 4.2) as (_, (left, right)):
        for row, color in zip(rows, ("tab:blue", "tab:orange", "tab:green"), strict=False):
            # A fast search looks at some thousands of documents at least: smaller fractions are the same point.
            curve = [point for point in row["curve"] if point["looked at"] <= point["share"] * 1.05]
            recalls = [point["recall"] for point in curve]
            percents = [100 * point["looked at"] for point in curve]
            of = f"m = {row['m']}"
            left.plot([point["ms"] for point in curve], recalls, "o-", color=color, label=f"fast, {of}")
            left.plot(row["ms"]["exact"], 1, "*", markersize=14, color=color, label=f"exact, {of}")
            right.plot(percents, recalls, "o-", color=color, label=f"recall@10, {of}")
            certified = [point["certified"] for point in curve]
            right.plot(percents, certified, "x--", color=color, label=f"certified, {of}")
        probes, flat = rows[0]["probes"], rows[0]["ms"][FLAT]
        cells = [point["ms"] for point in probes], [point["recall"] for point in probes]
        left.plot(*cells, "s:", color="tab:gray", label="FAISS IVF, one vector")
        left.axvline(flat, color="black", linewidth=0.8)
        left.annotate("FAISS flat", (flat, 0.55), rotation=90, ha="right")
        left.set(xscale="log", xlabel="ms a query", ylabel="recall@10", title=f"{rows[0]['n']:,} documents")
        right.set(xscale="log", xlabel="% of the documents looked at", title="what fast search finds, and can prove")
        for axes in (left, right):
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
