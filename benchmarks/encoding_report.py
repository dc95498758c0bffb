"""The report of `encoding.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from report import table


def lines(results: dict[str, Any]) -> Iterator[str]:
    for part, title in (("queries", "One query"), ("search", "From text to the ten best")):
        if not results.get(part):
            continue
        yield from (f"## {title}", "", "Milliseconds, and the ratio to the first.", "")
        names = list(results[part][0]["ms"])
        what = "tokens" if part == "queries" else "n"
        rows = []
        for row in results[part]:
            first = row["ms"][names[0]]
            times = (row["ms"].get(name) for name in names)  # HNSW is not beside every number of documents
            rows.append(
                [
                    row["threads"],
                    f"{row[what]:,}",
                    *("–" if ms is None else f"{ms:.2f} ({ms / first:.2f})" for ms in times),
                ]
            )
        yield from table(["threads", "tokens" if what == "tokens" else "documents", *names], rows)
    if found := results.get("documents"):
        yield from ("## Documents", "", "Of 8 to 60 words. `cosine`: the least with float32's vector.", "")
        first = found[0]["a second"]
        header = ["threads", "", "a second", "to the first", "cosine", "how, by a trial"]
        rows = [
            [
                row["threads"],
                row["name"],
                f"{row['a second']:,.0f}",
                f"{row['a second'] / first:.2f}",
                f"{row['cosine']:.5f}",
                row["trial"],
            ]
            for row in found
        ]
        yield from table(header, rows)
    if found := results.get("server"):
        yield from ("## The server", "", "300 documents of 60 words reranked over HTTP; 64 clients at once.", "")
        header = ["", "never seen, ms", "to the cross-encoder", "seen, ms", "to the cross-encoder"]
        header += ["64 clients: requests a second", "p50, ms", "p99, ms", "errors, wrong", "MB"]
        rows = []
        for row in found:
            rerank, load = row["rerank"], row["load"]
            new, seen, cross = rerank["first time"], rerank["cached"], rerank["cross-encoder"]
            rows.append([row["name"], f"{new:,.0f}", f"1/{cross / new:.1f}", f"{seen:.1f}", f"1/{cross / seen:,.0f}"])
            rows[-1] += [f"{load['a second']:.0f}", *(f"{load['ms'][name]:,.0f}" for name in ("p50", "p99"))]
            rows[-1] += [f"{load['errors']}, {load['wrong']}", f"{load['MB']['last quarter']:,.0f}"]
        yield from table(header, rows)
    if found := results.get("start"):
        yield from ("## Start and memory", "", "The server with an index and a model, after one search.", "")
        header = [
            "",
            "`polyencoders search`, cold, s",
            "warm, s",
            "server to `/ready`, s",
            "resident, MB",
            "its own, MB",
        ]
        rows = [
            [
                row["name"],
                "–" if row["search, cold"] is None else f"{row['search, cold']:.2f}",
                *(f"{row[key]:.2f}" for key in ("search", "ready")),
                *(f"{row[key]:,.0f}" for key in ("resident", "own")),
            ]
            for row in found
        ]
        yield from table(header, rows)
    if found := results.get("disk"):
        yield from (
            "## On disk",
            "",
            *table(["installed", "MB"], [[row["name"], f"{row['MB']:,.0f}"] for row in found]),
        )


def at_a_glance(results: dict[str, Any]) -> list[str]:
    """A short table for the documentation: the float32 export beside PyTorch, one line for each part."""
    rows: list[list[object]] = []
    for row in results["queries"]:
        if row["tokens"] == 13:
            theirs, ours = row["ms"]["SentenceTransformer.encode"], row["ms"]["float32"]
            rows.append([f"one query of 13 tokens, {_threads(row)}, ms", f"{theirs:.1f}", f"{ours:.1f}"])
    for row in results["search"]:
        theirs, ours = next(iter(row["ms"].values())), row["ms"]["float32, four codes, proven"]
        what = f"from text to the ten best of {row['n']:,}, {_threads(row)}, ms (beside FAISS flat)"
        rows.append([what, f"{theirs:.0f}", f"{ours:.0f}"])
    documents = {row["name"]: row["a second"] for row in results["documents"]}
    theirs, ours = documents["SentenceTransformer.encode"], documents["float32"]
    rows.append(["documents of 8 to 60 words, a second", f"{theirs:.0f}", f"{ours:.0f}"])
    rerank = next(row for row in results["server"] if row["name"] == "float32")["rerank"]
    for name, key in (("never seen", "first time"), ("seen before", "cached")):
        what = f"rerank of 300 documents of 60 words over HTTP, {name}, ms (beside a cross-encoder in process)"
        rows.append([what, f"{rerank['cross-encoder']:,.0f}", f"{rerank[key]:,.0f}"])
    started = {row["name"]: row for row in results["start"]}
    for what, key, form in (
        ("server to `/ready`, s", "ready", ".1f"),
        ("`polyencoders search` from the shell, s", "search", ".1f"),
        ("the server's own memory, MB", "own", ".0f"),
    ):
        rows.append([what, *(f"{started[name][key]:{form}}" for name in ("PyTorch", "float32"))])
    disk = {row["name"]: row["MB"] for row in results["disk"]}
    names = ("polyencoders[train,index,serve]", "polyencoders[index,serve]")
    rows.append(["the environment of a server on disk, MB", *(f"{disk[name]:,.0f}" for name in names)])
    return table(["", "PyTorch", "exported, float32"], rows)


def _threads(row: dict[str, Any]) -> str:
    return "one thread" if row["threads"] == 1 else f"{row['threads']} threads"


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """Ratios to sentence-transformers, and the start and memory with a float32 export."""
    found: dict[str, Any] = {}
    for part in ("queries", "search"):
        for row in results.get(part, []):
            times = list(row["ms"].items())
            what = f"{part}, {row.get('tokens', row.get('n'))}, {row['threads']} threads"
            found[what] = {name: round(ms / times[0][1], 3) for name, ms in times[1:]}
    if rows := results.get("documents"):
        found["documents"] = {row["name"]: round(row["a second"] / rows[0]["a second"], 2) for row in rows[1:]}
    for row in results.get("server", []):
        rerank, load = row["rerank"], row["load"]
        ratios = {name: round(rerank[name] / rerank["cross-encoder"], 5) for name in ("first time", "cached")}
        found[f"server, {row['name']}"] = ratios | {"a second": load["a second"], "p99": load["ms"]["p99"]}
    for row in results.get("start", []):
        keys = ("search, cold", "search", "ready", "resident", "own")
        found[f"start, {row['name']}"] = {key: round(row[key], 2) for key in keys if row[key] is not None}
    if rows := results.get("disk"):
        found["disk"] = {row["name"]: round(row["MB"]) for row in rows}
    return found
