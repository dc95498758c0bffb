"""More than one machine: encoding, training and searching on two nodes beside one, with a node killed on the way.

    python benchmarks/scale_out.py            # ten minutes for encode, nine for train, and search
    python benchmarks/scale_out.py --quick    # a minute; few documents and steps, shows that it runs
    python benchmarks/scale_out.py --parts encode train    # some of: encode, train, search
    python benchmarks/scale_out.py --parts encode --documents 50000 --layers 2

`encode`: 200,000 different short texts (people's replies, and pairs of them) into an index, with the first two layers
of all-MiniLM-L6-v2 (all six take three times as long): by one process with one thread; by two Ray nodes with one
processor each; and by two of which one is killed halfway. Each node is a process with its own network namespace where
the machine allows it. The indexes are compared document by document, to the last bit.
`train`: a poly-encoder in two processes and in one with the same batches: loss, gradients, validation, weights.
`search`: see scale_out_search.py.

Writes benchmarks/results/scale_out.{json,md}, keeping the parts that were not run; the last line printed is the summary
as one JSON object. Ends with 1 when a result is not that of one machine. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import scale_out_encode
import scale_out_train
from machine import machine

RESULTS = Path(__file__).parent / "results"
PARTS = ("encode", "train", "search")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few documents, nothing is written")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="none: only the tables again")
    parser.add_argument("--documents", type=int, help="to encode [default: 200,000]")
    parser.add_argument("--layers", type=int, help="of all-MiniLM-L6-v2's six [default: 2]")
    arguments = parser.parse_args()
    path = RESULTS / "scale_out.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not arguments.quick else {}
    for part in arguments.parts:
        with tempfile.TemporaryDirectory(prefix="scale_out-") as work:
            results[part] = _measured(part, arguments, Path(work))
        if not arguments.quick:
            results["machine"] = machine("scale_out.py", "torch", "sentence-transformers", "ray", "lancedb", "pylance")
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if not arguments.quick:
        (RESULTS / "scale_out.md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
    wrong = problems(results)
    print(json.dumps({"problems": wrong, **{part: summary for part in PARTS if (summary := _short(results, part))}}))
    if wrong:
        raise SystemExit(1)


def _measured(part: str, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    if part == "encode":
        documents = arguments.documents or (2_000 if arguments.quick else 200_000)
        layers = arguments.layers or (1 if arguments.quick else 2)
        return scale_out_encode.measure(arguments.quick, work, documents, layers)
    if part == "train":
        return scale_out_train.measure(arguments.quick, work)
    import scale_out_search

    return dict(scale_out_search.measure(arguments.quick, work))


def problems(results: dict[str, Any]) -> list[str]:
    """Where a result is not that of one machine."""
    wrong = []
    encode = results.get("encode", {})
    for name in ("two nodes", "one killed"):
        run = encode.get(name, {})
        if run and (not run["same ids, texts and metadata"] or run["largest difference"] > 1e-6 or run["problems"]):
            wrong.append(f"encode, {name}: the index is not that of one machine")
    if train := results.get("train"):
        one, two = train["one process"], train["two processes"]
        if abs(one["loss of the first batch"] - two["loss of the first batch"]) > 1e-5:
            wrong.append("train: another loss")
        if train["largest difference of a gradient"] > 1e-5 * max(1.0, train["largest gradient"]):
            wrong.append("train: other gradients")
        if any(abs(a - b) > 0.011 for a, b in zip(one["history"], two["history"], strict=True)):
            wrong.append("train: other measures")
    return wrong


def markdown(results: dict[str, Any]) -> str:
    """Tables of all parts."""
    blocks = ["# More than one machine", ""]
    if encode := results.get("encode"):
        how = "each in its own network namespace" if encode["namespaces"] else "both on the loopback device"
        blocks += [
            "## Encoding",
            "",
            f"{encode['documents']:,} documents, the first {encode['layers']} layers of {encode['backbone']}, chunks "
            f"of {encode['chunk']:,}. Nodes have one processor each, {how}; all are one machine's.",
            "",
            "| | documents | seconds | documents a second | seconds until the first chunk | documents that differ |",
            "|---|---|---|---|---|---|",
        ]
        for name in ("one process", "one node", "two nodes", "one killed"):
            if run := encode.get(name):
                called = {
                    "one process": "one process, `index add`",
                    "one node": "one node, `--ray`",
                    "two nodes": "two nodes, `--ray`",
                }.get(name, "")
                called = called or f"two nodes, one killed after {run['killed at']:,} documents"
                differ = run.get("vectors that differ", "–")
                rate = run["documents"] / run["seconds"]
                blocks.append(
                    f"| {called} | {run['documents']:,} | {run['seconds']:.0f} | {rate:,.0f} | {run['first']:.0f} | "
                    f"{differ} |"
                )
        largest = max(
            (encode[name]["largest difference"] or 0 for name in ("two nodes", "one killed") if name in encode),
            default=0,
        )
        blocks += ["", f"Largest difference of a number of a vector from one process's: {largest:g}.", ""]
    if train := results.get("train"):
        one, two = train["one process"], train["two processes"]
        blocks += [
            "## Training",
            "",
            f"{train['steps']} steps of {train['batch']} queries, poly-4 on all-MiniLM-L6-v2, float32, without "
            "dropout; one thread a process.",
            "",
            "| | one process | two processes |",
            "|---|---|---|",
            f"| first loss | {one['loss of the first batch']:.6f} | {two['loss of the first batch']:.6f} |",
            f"| {one['metric']} | {_listed(one)} | {_listed(two)} |",
            f"| seconds | {one['seconds']:.0f} | {two['seconds']:.0f} |",
            "",
            "Largest difference of a gradient of the first batch: "
            f"{train['largest difference of a gradient']:.1e} (the largest is {train['largest gradient']:.2g}); "
            "of a weight at the end: "
            f"{train['largest difference of a weight']:.1e}.",
            "",
        ]
    if search := results.get("search"):
        import scale_out_search

        figures = json.dumps(scale_out_search.summary(search), indent=1)
        blocks += [
            "## Searching",
            "",
            "What each figure is, `scale_out_search.py` says.",
            "",
            f"```json\n{figures}\n```",
            "",
        ]
    if about := results.get("machine"):
        blocks += [", ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
    return "\n".join(blocks)


def _listed(run: dict[str, Any]) -> str:
    return " → ".join(f"{value:.3f}" for value in (run["before"], *run["history"]))


def _short(results: dict[str, Any], part: str) -> dict[str, Any]:
    """The figures of a part that matter most."""
    found = results.get(part)
    if not found:
        return {}
    if part == "search":
        import scale_out_search

        return dict(scale_out_search.summary(found))
    if part == "encode":
        return {
            name: {key: run[key] for key in ("documents", "seconds", "vectors that differ") if key in run}
            for name, run in found.items()
            if isinstance(run, dict)
        }
    return {key: value for key, value in found.items() if key.startswith("largest")} | {
        name: round(found[name]["seconds"], 1) for name in ("one process", "two processes")
    }


if __name__ == "__main__":
    main()
