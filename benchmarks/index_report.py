"""What `index.py` measured, as tables, a picture and a summary.

Knows the figures it is given; measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import put

EXHAUSTIVE, ONE_VECTOR = "exhaustive, PyTorch in blocks", "exhaustive, FAISS flat, one vector"
DEFAULT_SHARE = 0.07


def at_default(row: dict[str, Any]) -> dict[str, float]:
    """The point of a curve at the share that `fast` looks at by default."""
    return next(point for point in row["curve"] if point["share"] == DEFAULT_SHARE)


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures that the goals speak of."""
    out: dict[str, Any] = {}
    if "adding" in results:
        rates = results["adding"]["rates"]
        out["texts a second"] = {name: round(rate) for name, rate in rates.items()}
        out["times sentence-transformers"] = round(rates["polyencoders"] / rates["sentence-transformers"], 2)
        out["command, documents a second"] = round(
            results["adding"]["command"]["documents"] / results["adding"]["command"]["seconds"]
        )
    for row in results.get("corpus", []):
        out[f"n={row['n']}, m={row['m']}, ms"] = {name: round(ms, 2) for name, ms in row["ms"].items()}
        out[f"n={row['n']}, m={row['m']}, open and first answer, ms"] = [round(row["open"]), round(row["first"])]
    for row in results.get("million", []):
        fast, ms = at_default(row), row["ms"]
        out[f"n={row['n']}, m={row['m']}"] = {
            "exact, ms": round(ms["exact"], 2),
            "fast, ms": round(fast["ms"], 2),
            "recall": round(fast["recall"], 4),
            "certified": fast["certified"],
            **{
                f"{mode} / {what}": round(took / by, 3)
                for what, by in (("exhaustive", ms[EXHAUSTIVE]), ("FAISS flat", ms[ONE_VECTOR]), ("exact", ms["exact"]))
                for mode, took in (("exact", ms["exact"]), ("fast", fast["ms"]))
                if mode != what
            },
        }
    if "memory" in results:
        out["MB"] = {"searching": results["memory"]["searching"], "adding": results["memory"]["adding"]}
    return out


def markdown(results: dict[str, Any]) -> str:
    """Tables of everything."""
    lines = ["# The index", ""]
    if "machine" in results:
        lines += ["`" + "`, `".join(f"{name}: {value}" for name, value in results["machine"].items()) + "`", ""]
    if "adding" in results:
        lines += _adding(results["adding"])
    if "corpus" in results:
        lines += _corpus(results["corpus"])
    for row in results.get("million", []):
        lines += _million(row)
    if "memory" in results:
        lines += _memory(results["memory"])
    return "\n".join(lines) + "\n"


def _adding(row: dict[str, Any]) -> list[str]:
    theirs = row["rates"]["sentence-transformers"]
    command = row["command"]
    return [
        f"## Adding: {row['texts']:,} texts of the built-in replies, block by block in turn",
        "",
        "| | texts a second | |",
        "|---|---|---|",
        *(f"| {name} | {rate:,.0f} | {rate / theirs:.2f} times |" for name, rate in row["rates"].items()),
        "",
        f"The least cosine of a vector with sentence-transformers' own: {row['least cosine']:.5f}.",
        "",
        f"`polyencoders index create` of all {command['documents']:,}: {command['seconds']:,.0f} s "
        f"({command['documents'] / command['seconds']:,.0f} a second, reading, writing and laying out included), "
        f"{command['MB']:,.0f} MB; the same command again, with nothing to encode: {command['again']:.0f} s.",
        "",
    ]


def _corpus(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"## Searching the {rows[0]['n']:,} built-in replies, one query, ms",
        "",
        "| | ms | recall@10 of its own exact search |",
        "|---|---|---|",
    ]
    for row in rows:
        for name, ms in row["ms"].items():
            label = f"**polyencoders, {name}, m = {row['m']}**" if name in ("exact", "fast") else f"{name}, one vector"
            lines.append(f"| {label} | {ms:.2f} | {row['recall'][name]:.3f} |")
    opened = ", ".join(f"{row['open']:.0f} and {row['first']:.0f}" for row in rows)
    return [*lines, "", f"From opening to ready, and to the first answer, ms: {opened}.", ""]


def _million(row: dict[str, Any]) -> list[str]:
    scan, flat, exact = row["ms"][EXHAUSTIVE], row["ms"][ONE_VECTOR], row["ms"]["exact"]
    lines = [
        f"## {row['n']:,} documents, m = {row['m']}, {row['queries']} queries",
        "",
        "| | ms | of the exhaustive scan | of FAISS flat | of exact | recall@10 | certified | mean error bound |",
        "|---|---|---|---|---|---|---|---|",
        f"| {EXHAUSTIVE} | {scan:.1f} | 1 | {scan / flat:.2f} | {scan / exact:.1f} | 1 | all | 0 |",
        f"| {ONE_VECTOR} | {flat:.1f} | {flat / scan:.3f} | 1 | {flat / exact:.1f} | – | – | – |",
        f"| **exact** | {exact:.1f} | {exact / scan:.3f} | {exact / flat:.2f} | 1 | 1 | all | 0 |",
    ]
    for point in row["curve"]:
        name = f"fast, {point['share']:.2%} of the documents"
        name = f"**{name}** (default)" if point["share"] == DEFAULT_SHARE else name
        ms = point["ms"]
        lines.append(
            f"| {name} | {ms:.2f} | {ms / scan:.4f} | {ms / flat:.3f} | {ms / exact:.2f} | {point['recall']:.4f} | "
            f"{point['certified']:.0%} | {point['error']:.3f} |"
        )
    for point in row["probes"]:
        lines.append(
            f"| FAISS IVF, one vector, {point['nprobe']} probes | {point['ms']:.2f} | {point['ms'] / scan:.4f} | "
            f"{point['ms'] / flat:.3f} | {point['ms'] / exact:.2f} | {point['recall']:.4f} | – | – |"
        )
    return [*lines, ""]


def _memory(row: dict[str, Any]) -> list[str]:
    lines = [
        "## Memory of a process, MB",
        "",
        "| | most | of its own, files mapped left out |",
        "|---|---|---|",
        f"| imports alone | {row['imports alone']['peak MB']:,.0f} | {row['imports alone']['of its own']:,.0f} |",
        f"| searching {row['n']:,} documents | {row['searching']['peak MB']:,.0f} | "
        f"{row['searching']['of its own']:,.0f} |",
    ]
    for number, taken in row["adding"].items():
        lines.append(f"| adding {int(number):,} documents | {taken['peak MB']:,.0f} | {taken['of its own']:,.0f} |")
    return [*lines, ""]


def into_readme(results: dict[str, Any]) -> None:
    """The short table in the README, between its marks."""
    rows = results["million"]
    header = (
        "| one query, " + f"{rows[0]['n']:,} documents, ms | " + " | ".join(f"m = {row['m']}" for row in rows) + " |"
    )
    lines = [header, "|---|" + "---|" * len(rows)]
    lines.append("| **exact**, proven | " + " | ".join(f"{row['ms']['exact']:.1f}" for row in rows) + " |")
    recalls = " / ".join(f"{at_default(row)['recall']:.3f}" for row in rows)
    lines.append(
        f"| **fast** (recall@10 {recalls}) | " + " | ".join(f"{at_default(row)['ms']:.1f}" for row in rows) + " |"
    )
    lines.append(
        "| every score, PyTorch in blocks | " + " | ".join(f"{row['ms'][EXHAUSTIVE]:.0f}" for row in rows) + " |"
    )
    lines.append(
        "| FAISS flat, a bi-encoder's vector | " + " | ".join(f"{row['ms'][ONE_VECTOR]:.1f}" for row in rows) + " |"
    )
    put("index", lines, "README.md")


def draw(results: dict[str, Any], path: Path) -> None:
    """Recall and certificates against time, and against the share of the documents."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for row, color in zip(results["million"], ("tab:blue", "tab:orange", "tab:green"), strict=False):
        # A fast search looks at some thousands of documents whatever the share: those points are one and the same.
        curve = [point for point in row["curve"] if point["looked at"] <= point["share"] * 1.05]
        left.plot(
            [point["ms"] for point in curve],
            [point["recall"] for point in curve],
            "o-",
            color=color,
            label=f"fast, m = {row['m']}",
        )
        left.plot(row["ms"]["exact"], 1, "*", markersize=14, color=color, label=f"exact, m = {row['m']}")
        shares = [100 * point["looked at"] for point in curve]
        right.plot(shares, [point["recall"] for point in curve], "o-", color=color, label=f"recall@10, m = {row['m']}")
        right.plot(
            shares, [point["certified"] for point in curve], "x--", color=color, label=f"certified, m = {row['m']}"
        )
    probes = results["million"][0]["probes"]
    left.plot(
        [point["ms"] for point in probes],
        [point["recall"] for point in probes],
        "s:",
        color="tab:gray",
        label="FAISS IVF, one vector",
    )
    left.axvline(results["million"][0]["ms"][ONE_VECTOR], color="black", linewidth=0.8)
    left.annotate("FAISS flat", (results["million"][0]["ms"][ONE_VECTOR], 0.55), rotation=90, ha="right")
    left.set(xscale="log", xlabel="ms a query", ylabel="recall@10", title=f"{results['million'][0]['n']:,} documents")
    right.set(xscale="log", xlabel="% of the documents looked at", title="what fast search finds, and can prove")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
