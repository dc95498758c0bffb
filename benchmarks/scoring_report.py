"""The report of `scoring.py`: its tables, its figure and its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import figure, put, table

CODES = (1, 4, 16, 64, 360)
FLAT, EIGHT_BITS, LANCE = "FAISS flat", "FAISS 8-bit", "LanceDB flat"


def ours(m: int) -> str:
    return f"ours, m={m}"


def blocked(m: int) -> str:
    return f"torch in blocks, m={m}"


def context(m: int) -> str:
    return f"weighted context, m={m}"


def summary(results: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for row in results.get("speed", []):
        if row["kind"] == "trained" and row["d"] == 384 and row["n"] >= 100_000:
            name = f"n={row['n']}, {row['threads']} threads, ratio to {FLAT}"
            flat = best_flat(results, row)
            out[name] = {m: round(row["ms"][ours(m)] / flat, 2) for m in CODES if ours(m) in row["ms"]}
    if exact := results.get("exact", []):
        out["identical"] = f"{sum(row['identical'] for row in exact)} of {sum(row['queries'] for row in exact)} queries"
    if "memory" in results:
        out["MB beyond the vectors"] = max(round(row["MB"], 1) for row in results["memory"])
    for row in results.get("end-to-end", []):
        ratios = {name: round(ms / row["ms"][FLAT], 2) for name, ms in row["ms"].items() if name != FLAT}
        out[f"end to end, {row['threads']} threads"] = ratios
    return out


def best_flat(results: dict[str, Any], row: dict[str, Any]) -> float:
    """FAISS's time on the number of threads that suits it best: one is often faster here."""
    same = [other for other in results["speed"] if all(other[key] == row[key] for key in ("kind", "d", "n"))]
    return min(other["ms"][FLAT] for other in same if other["threads"] <= row["threads"])


def lines(results: dict[str, Any]) -> list[str]:
    made = [line for row in results.get("speed", []) for line in _speed(results, row)]
    for row in results.get("batch", []):
        made += [f"## 32 queries at a time, n = {row['n']:,}, d = 384, {_threads(row)}, milliseconds a query", ""]
        rows = [(name, f"{ms:.2f}", f"{ms / row['ms'][FLAT]:.2f}") for name, ms in row["ms"].items()]
        made += table(("", "ms", f"to {FLAT}"), rows)
    if "end-to-end" in results:
        rows = [
            (name, row["threads"], f"{ms:.1f}", f"{ms / row['ms'][FLAT]:.2f}")
            for row in results["end-to-end"]
            for name, ms in row["ms"].items()
        ]
        made += ["## From a query's text to its ten best of 100,000, d = 384", ""]
        made += ["Bi-encoder: sentence-transformers and FAISS flat.", ""]
        made += table(("", "threads", "ms", "to the bi-encoder"), rows)
    if "exact" in results:
        made += ["## The ten best, against scoring every document in float64", ""]
        rows = [
            (
                *(row[name] for name in ("kind", "d", "m")),
                *(f"{row[name]:,}" for name in ("n", "identical", "queries")),
                f"{row['largest difference of scores']:.0e}",
            )
            for row in results["exact"]
        ]
        made += table(("vectors", "d", "m", "n", "identical", "of queries", "scores differ by at most"), rows)
    if "memory" in results:
        rows = [(f"{r['n']:,}", r["m"], f"{r['prepared MB']:.0f}", f"{r['MB']:.1f}") for r in results["memory"]]
        made += ["## Memory of 32 queries, beyond the vectors and their 8-bit copy", ""]
        made += table(("n", "m", "8-bit copy, MB", "peak, MB"), rows)
    return made


def _speed(results: dict[str, Any], row: dict[str, Any]) -> list[str]:
    ms, bandwidth, peak = row["ms"], row["floors"]["GB/s"], row["floors"]["GOP/s"]
    peers = ", ".join(f"{name} {ms[name]:.2f}" for name in (FLAT, EIGHT_BITS, LANCE) if name in ms)
    rows = [
        (
            m,
            f"{ms[ours(m)]:.2f}",
            f"{ms[ours(m)] / best_flat(results, row):.2f}",
            *(f"{ms[peer]:,.1f}" if peer in ms else "–" for peer in (blocked(m), context(m))),
            f"{row['n'] * (row['d'] + 12) / bandwidth / 1e6:.2f}",
            f"{2 * row['n'] * m * row['d'] / peak / 1e6:.2f}",
        )
        for m in CODES
        if ours(m) in ms
    ]
    header = ("m", "ours", f"to {FLAT}", "torch in blocks", "weighted context", "floor: bytes", "floor: operations")
    return [
        f"## {row['kind'].capitalize()} vectors, d = {row['d']}, n = {row['n']:,}, {_threads(row)}, one query",
        "",
        f"Reading memory {bandwidth:.0f} GB/s, 8-bit products {peak:.0f} GOP/s. Bi-encoder: {peers}.",
        "",
        *table(header, rows),
    ]


def _threads(row: dict[str, Any]) -> str:
    return "one thread" if row["threads"] == 1 else f"{row['threads']} threads"


def into_readme(results: dict[str, Any]) -> None:
    """One query, 100,000 documents, one thread."""
    shape = {"kind": "trained", "d": 384, "n": 100_000, "threads": 1}
    ms = next(row["ms"] for row in results["speed"] if shape.items() <= row.items())
    labels = {"**polyencoders**": ours, "PyTorch, in blocks": blocked, "as ParlAI computes it": context}
    rows = [(label, *(f"{ms[name(m)]:.1f}" if name(m) in ms else "" for m in CODES)) for label, name in labels.items()]
    rest = [""] * (len(CODES) - 1)
    rows += [(f"{name}, a bi-encoder's vector", f"{ms[name]:.1f}", *rest) for name in (FLAT, EIGHT_BITS, LANCE)]
    put("scoring", table(("", *(f"m = {m}" for m in CODES)), rows), "docs/scoring.md")


def draw(results: dict[str, Any], path: Path) -> None:
    """Milliseconds over the number of codes, 100,000 documents, one thread."""
    rows = [r for r in results["speed"] if r["d"] == 384 and r["n"] == 100_000 and r["threads"] == 1]
    with figure(path, len(rows), 5.5, 4.2, sharey=True) as (_, panels):
        for axes, row in zip(panels, rows, strict=True):
            curves = ((context, "weighted context (n, d)"), (blocked, "torch in blocks"), (ours, "polyencoders"))
            for number, (name, label) in enumerate(curves):
                if points := [(m, row["ms"][name(m)]) for m in CODES if name(m) in row["ms"]]:
                    axes.plot(*zip(*points, strict=True), marker="o", label=label, color=f"C{number}")
            for name, style in ((FLAT, "--"), (EIGHT_BITS, ":")):
                axes.axhline(row["ms"][name], color="black", linestyle=style, label=f"{name} (bi-encoder)")
            title = f"{row['kind']} vectors, 100,000 documents, d = 384"
            axes.set(xscale="log", yscale="log", xlabel="codes m", title=title)
            axes.set_xticks(CODES, [str(m) for m in CODES])
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("milliseconds a query, one thread")
        panels[0].legend(fontsize=8)
