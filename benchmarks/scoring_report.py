"""What `scoring.py` measured, as tables, a picture and a summary.

Knows the rows it is given and the names of the contenders; measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import put

CODES = (1, 4, 16, 64, 360)
FLAT, EIGHT_BITS, LANCE = "FAISS flat", "FAISS 8-bit", "LanceDB flat"


def ours(m: int) -> str:
    return f"ours, m={m}"


def blocked(m: int) -> str:
    return f"torch in blocks, m={m}"


def context(m: int) -> str:
    return f"weighted context, m={m}"


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures that the goals speak of."""
    out: dict[str, Any] = {}
    for row in results.get("speed", []):
        if row["kind"] == "trained" and row["d"] == 384 and row["n"] >= 100_000:
            name = f"n={row['n']}, {row['threads']} threads, ratio to {FLAT}"
            flat = flat_at_best(results, row)
            out[name] = {m: round(row["ms"][ours(m)] / flat, 2) for m in CODES if ours(m) in row["ms"]}
    exact = results.get("exact", [])
    if exact:
        out["identical"] = f"{sum(row['identical'] for row in exact)} of {sum(row['queries'] for row in exact)} queries"
    if "memory" in results:
        out["MB beyond the vectors"] = max(round(row["MB"], 1) for row in results["memory"])
    for row in results.get("end-to-end", []):
        out[f"end to end, {row['threads']} threads"] = {
            name: round(ms / row["ms"][FLAT], 2) for name, ms in row["ms"].items() if name != FLAT
        }
    return out


def flat_at_best(results: dict[str, Any], row: dict[str, Any]) -> float:
    """FAISS's time on as many of the threads as suit it: a single one is often faster here."""
    same = [other for other in results["speed"] if all(other[key] == row[key] for key in ("kind", "d", "n"))]
    return min(other["ms"][FLAT] for other in same if other["threads"] <= row["threads"])


def markdown(results: dict[str, Any]) -> str:
    """Tables of everything."""
    lines = ["# Searching, in milliseconds", ""]
    if "machine" in results:
        lines += ["`" + "`, `".join(f"{name}: {value}" for name, value in results["machine"].items()) + "`", ""]
    for row in results.get("speed", []):
        bandwidth, peak = row["floors"]["GB/s"], row["floors"]["GOP/s"]
        lines += [
            f"## {row['kind'].capitalize()} vectors, d = {row['d']}, n = {row['n']:,}, {_threads(row)}, one query",
            "",
            f"Reading memory {bandwidth:.0f} GB/s, 8-bit products {peak:.0f} GOP/s. Bi-encoder: "
            + ", ".join(f"{name} {row['ms'][name]:.2f}" for name in (FLAT, EIGHT_BITS, LANCE) if name in row["ms"])
            + ".",
            "",
            "| m | ours | to FAISS flat | torch in blocks | weighted context | floor: bytes | floor: operations |",
            "|---|---|---|---|---|---|---|",
        ]
        for m in CODES:
            ms = row["ms"]
            if ours(m) not in ms:
                continue
            numbers = (ms.get(blocked(m)), ms.get(context(m)))
            lines.append(
                f"| {m} | {ms[ours(m)]:.2f} | {ms[ours(m)] / flat_at_best(results, row):.2f} | "
                + " | ".join("–" if x is None else f"{x:,.1f}" for x in numbers)
                + f" | {row['n'] * (row['d'] + 12) / bandwidth / 1e6:.2f}"
                + f" | {2 * row['n'] * m * row['d'] / peak / 1e6:.2f} |"
            )
        lines.append("")
    for row in results.get("batch", []):
        lines += [f"## 32 queries at a time, n = {row['n']:,}, d = 384, {_threads(row)}, milliseconds a query", ""]
        lines += ["| | ms | to FAISS flat |", "|---|---|---|"]
        lines += [f"| {name} | {ms:.2f} | {ms / row['ms'][FLAT]:.2f} |" for name, ms in row["ms"].items()]
        lines.append("")
    if "end-to-end" in results:
        lines += ["## From a query's text to its ten best of 100,000, d = 384", ""]
        lines += ["Bi-encoder: sentence-transformers and FAISS flat.", "", "| | threads | ms | to the bi-encoder |"]
        lines += ["|---|---|---|---|"]
        for row in results["end-to-end"]:
            ms = row["ms"]
            lines += [f"| {name} | {row['threads']} | {ms[name]:.1f} | {ms[name] / ms[FLAT]:.2f} |" for name in ms]
        lines.append("")
    if "exact" in results:
        lines += ["## The ten best, against scoring every document in float64", ""]
        lines += [
            "| vectors | d | m | n | identical | of queries | scores differ by at most |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['kind']} | {row['d']} | {row['m']} | {row['n']:,} | {row['identical']:,} | {row['queries']:,} | "
            f"{row['largest difference of scores']:.0e} |"
            for row in results["exact"]
        ]
        lines.append("")
    if "memory" in results:
        lines += ["## Memory of 32 queries, beyond the vectors and their 8-bit copy", ""]
        lines += ["| n | m | 8-bit copy, MB | peak, MB |", "|---|---|---|---|"]
        lines += [f"| {r['n']:,} | {r['m']} | {r['prepared MB']:.0f} | {r['MB']:.1f} |" for r in results["memory"]]
        lines.append("")
    return "\n".join(lines)


def into_readme(results: dict[str, Any]) -> None:
    """Puts the table of one query, 100,000 documents, one thread between its marks in the README."""
    shape = {"kind": "trained", "d": 384, "n": 100_000, "threads": 1}
    ms = next(row["ms"] for row in results["speed"] if shape.items() <= row.items())
    lines = ["| | " + " | ".join(f"m = {m}" for m in CODES) + " |", "|---|" + "---|" * len(CODES)]
    for label, name in (
        ("**polyencoders**", ours),
        ("PyTorch, in blocks", blocked),
        ("as ParlAI computes it", context),
    ):
        numbers = [f"{ms[name(m)]:.1f}" if name(m) in ms else "" for m in CODES]
        lines.append(f"| {label} | " + " | ".join(numbers) + " |")
    for name in (FLAT, EIGHT_BITS, LANCE):
        lines.append(f"| {name}, a bi-encoder's vector | {ms[name]:.1f} |" + " |" * (len(CODES) - 1))
    put("scoring", lines, "README.md")


def _threads(row: dict[str, Any]) -> str:
    return "one thread" if row["threads"] == 1 else f"{row['threads']} threads"


def draw(results: dict[str, Any], path: Path) -> None:
    """Milliseconds over the number of codes, 100,000 documents, one thread."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = [r for r in results["speed"] if r["d"] == 384 and r["n"] == 100_000 and r["threads"] == 1]
    figure, axes = pyplot.subplots(1, len(rows), figsize=(5.5 * len(rows), 4.2), sharey=True, squeeze=False)
    for ax, row in zip(axes[0], rows, strict=True):
        lines = ((context, "weighted context (n, d)"), (blocked, "torch in blocks"), (ours, "polyencoders"))
        for number, (name, label) in enumerate(lines):
            points = [(m, row["ms"][name(m)]) for m in CODES if name(m) in row["ms"]]
            if points:
                ax.plot(*zip(*points, strict=True), marker="o", label=label, color=f"C{number}")
        for name, style in ((FLAT, "--"), (EIGHT_BITS, ":")):
            ax.axhline(row["ms"][name], color="black", linestyle=style, label=f"{name} (bi-encoder)")
        ax.set(xscale="log", yscale="log", xlabel="codes m", title=f"{row['kind']} vectors, 100,000 documents, d = 384")
        ax.set_xticks(CODES, [str(m) for m in CODES])
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("milliseconds a query, one thread")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
