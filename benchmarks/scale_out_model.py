"""The model of what many machines cost: beside what `scale_out_search.py` measured, and for 10^8 and 10^10 documents.

    python benchmarks/scale_out_model.py            # seconds; reads results/scale_out_search.json
    python benchmarks/scale_out_model.py --quick    # the same, and writes nothing

What a shard's search takes, and what asking takes, is fitted to one and two shards; four are foretold. Writes
benchmarks/results/scale_out_model.{json,md}, and the tables of docs/scaling.md; the last line printed is the summary as
one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machine import machine
from pages import put
from polyencoders.distributed.costs import Machine, Overheads, estimate

RESULTS = Path(__file__).parent / "results"
LARGE = {
    "10^8, exact": {"documents": 1e8, "shards": 4},
    "10^8, exact, many": {"documents": 1e8, "shards": 16},
    "10^8, fast": {"documents": 1e8, "shards": 4, "share": 0.07},
    "10^10, exact": {"documents": 1e10, "shards": 100},
    "10^10, exact, many": {"documents": 1e10, "shards": 400},
    "10^10, fast": {"documents": 1e10, "shards": 100, "share": 0.07},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="writes nothing")
    arguments = parser.parse_args()
    measured = json.loads((RESULTS / "scale_out_search.json").read_text(encoding="utf-8"))
    checked, rows = beside(measured)
    large = {name: asdict(estimate(**settings)) for name, settings in LARGE.items()}
    lines = {"scaling-check": check_table(rows), "scaling-large": large_table(large)}
    for table in lines.values():
        print("\n".join(table), end="\n\n")
    summary = {"machine": machine("scale_out_model.py"), "fitted": checked, "rows": rows, "large": large}
    if not arguments.quick:
        (RESULTS / "scale_out_model.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        text = "\n\n".join("\n".join(table) for table in lines.values())
        (RESULTS / "scale_out_model.md").write_text(f"# The model of many machines\n\n{text}\n", encoding="utf-8")
        for name, table in lines.items():
            put(name, table, "docs/scaling.md")
    print(json.dumps(summary))


def beside(measured: dict[str, Any]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What was fitted to one and two shards, and a row for each number of them: model and measurement."""
    one, two = measured["shards"]["1"], measured["shards"]["2"]
    alone = [part["exact"]["ms of the first shard alone"] / 1000 for part in (one, two)]
    scanned = [part["documents of a shard"] * measured["corpus"]["dimension"] for part in (one, two)]
    rate = (scanned[0] - scanned[1]) / (alone[0] - alone[1])
    asking = [part["exact"]["ms of fan-out and merge"] / 1000 for part in (one, two)]
    fitted = Overheads(
        encode=0,
        search=alone[0] - scanned[0] / rate,
        per_shard=asking[1] - asking[0],
        fan_out=2 * asking[0] - asking[1],
    )
    rows = []
    for shards, part in measured["shards"].items():
        for mode in ("exact", "fast"):
            found = part[mode]
            share = found["8-bit bytes scanned in all"] / part["bytes of 8-bit vectors of a shard"] / int(shards)
            model = estimate(
                measured["corpus"]["documents"],
                shards=int(shards),
                dimension=measured["corpus"]["dimension"],
                codes=measured["corpus"]["codes"],
                k=measured["corpus"]["k"],
                share=min(1.0, share),
                machine=Machine(scan_rate=rate),
                overheads=fitted,
            )
            rows.append(
                {
                    "shards": int(shards),
                    "mode": mode,
                    "search": [1000 * model.scan, found["ms of the first shard alone"]],
                    "asking": [
                        1000 * model.overhead,
                        found["ms of fan-out and merge"] + found["ms of asking which tiles"],
                    ],
                    "whole": [1000 * model.seconds, found["ms"]],
                    "network": [model.network, found["bytes on the loopback"]],
                    "memory": [model.memory_per_shard, part["bytes of 8-bit vectors of a shard"]],
                }
            )
    return {"scan_rate": rate, **asdict(fitted)}, rows


def check_table(rows: list[dict[str, Any]]) -> list[str]:
    """Model / measured."""
    lines = [
        "| shards | | a shard alone, ms | asking and merging, ms | a query, ms | kB on the wire | MB in a shard |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            *(f"{row[name][0]:.1f} / {row[name][1]:.1f}" for name in ("search", "asking", "whole")),
            f"{row['network'][0] / 1e3:.0f} / {row['network'][1] / 1e3:.0f}",
            f"{row['memory'][0] / 1e6:.0f} / {row['memory'][1] / 1e6:.0f}",
        ]
        lines.append(f"| {row['shards']} | {row['mode']} | " + " | ".join(cells) + " |")
    return lines


def large_table(large: dict[str, dict[str, Any]]) -> list[str]:
    """A line an index."""
    lines = [
        "| documents | shards = machines | in memory of each | in storage | a query | queries a second | on the wire, "
        "a query | to encode, once | a month | a million queries |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in large.items():
        lines.append(
            f"| {name.removesuffix(', many')} | {row['machines']:,} | {row['memory_per_shard'] / 1e9:.1f} GB | "
            f"{row['disk'] / 1e12:.1f} TB | {_time(row['seconds'])} | {row['queries_per_second']:.1f} | "
            f"{row['network'] / 1e6:,.2f} MB | {row['encoding'] / 3600:,.0f} h, ${row['dollars_to_encode']:,.0f} | "
            f"${row['dollars_a_month']:,.0f} | ${row['dollars_a_million_queries']:,.0f} |"
        )
    return lines


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


if __name__ == "__main__":
    main()
