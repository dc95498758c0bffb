"""More than one machine: encoding and training on two nodes beside one, with a node killed on the way.

    python benchmarks/scale_out.py            # ten minutes for encode, nine for train
    python benchmarks/scale_out.py --quick    # a minute; few documents and steps, shows that it runs
    python benchmarks/scale_out.py --parts train    # some of: encode, train
    python benchmarks/scale_out.py --parts encode --documents 50000 --layers 2

`encode`: 200,000 different short texts into an index, with the first two layers of all-MiniLM-L6-v2: by one process
with one thread, by two Ray nodes with one processor each, and by two of which one is killed halfway. Each node has its
own network namespace where the machine allows it. The indexes are compared document by document, to the last bit.
`train`: a poly-encoder in two processes and in one with the same batches: loss, gradients, validation, weights.
`scale_out_search.py` measures searching.

Writes benchmarks/results/scale_out.{json,md} and keeps the parts that were not run; the last line printed is the
summary as one JSON object. Exits with 1 if a result is not that of one machine. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import tempfile
from pathlib import Path
from typing import Any

import scale_out_encode
import scale_out_train

PARTS = ("encode", "train")
RUNS = {
    "one process": "one process, `index add`",
    "one node": "one node, `--ray`",
    "two nodes": "two nodes, `--ray`",
    "one killed": "two nodes, one killed after {:,} documents",
}


def main() -> None:
    command = parser(__doc__, PARTS)
    command.add_argument("--documents", type=int, help="to encode [default: 200,000]")
    command.add_argument("--layers", type=int, help="of all-MiniLM-L6-v2's six [default: 2]")
    arguments = command.parse_args()
    quick = arguments.quick
    report = Report("scale_out", ("torch", "sentence-transformers", "ray", "lancedb", "pylance"), quick)
    for part in arguments.parts:
        with tempfile.TemporaryDirectory(prefix="scale_out-") as work:
            if part == "encode":
                documents = arguments.documents or (2_000 if quick else 200_000)
                layers = arguments.layers or (1 if quick else 2)
                report.keep({part: scale_out_encode.measure(quick, Path(work), documents, layers)})
            else:
                report.keep({part: scale_out_train.measure(quick, Path(work))})
    results, wrong = report.results, problems(report.results)
    lines = encode_lines(results["encode"]) if "encode" in results else []
    lines += train_lines(results["train"]) if "train" in results else []
    report.publish("More than one machine", lines, {"problems": wrong, **summary(results)})
    if wrong:
        raise SystemExit(1)


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


def encode_lines(encode: dict[str, Any]) -> list[str]:
    how = "each in its own network namespace" if encode["namespaces"] else "both on the loopback device"
    runs = {name: encode[name] for name in RUNS if name in encode}
    rows = [
        (
            RUNS[name].format(run.get("killed at", 0)),
            f"{run['documents']:,}",
            f"{run['seconds']:.0f}",
            f"{run['documents'] / run['seconds']:,.0f}",
            f"{run['first']:.0f}",
            run.get("vectors that differ", "–"),
        )
        for name, run in runs.items()
    ]
    header = ("", "documents", "seconds", "documents a second", "seconds until the first chunk")
    largest = max(run.get("largest difference") or 0 for run in runs.values())
    return [
        "## Encoding",
        "",
        f"{encode['documents']:,} documents, the first {encode['layers']} layers of {encode['backbone']}, chunks "
        f"of {encode['chunk']:,}. Nodes have one processor each, {how}; all are on one machine.",
        "",
        *table((*header, "documents that differ"), rows),
        f"Largest difference of a number in a vector from one process's: {largest:g}.",
        "",
    ]


def train_lines(train: dict[str, Any]) -> list[str]:
    runs = [train[name] for name in ("one process", "two processes")]
    rows = [
        ("first loss", *(f"{run['loss of the first batch']:.6f}" for run in runs)),
        (
            runs[0]["metric"],
            *(" → ".join(f"{value:.3f}" for value in (run["before"], *run["history"])) for run in runs),
        ),
        ("seconds", *(f"{run['seconds']:.0f}" for run in runs)),
    ]
    return [
        "## Training",
        "",
        f"{train['steps']} steps of {train['batch']} queries, poly-4 on all-MiniLM-L6-v2, float32, without "
        "dropout; one thread a process.",
        "",
        *table(("", "one process", "two processes"), rows),
        f"Largest difference of a gradient of the first batch: {train['largest difference of a gradient']:.1e} (the "
        f"largest is {train['largest gradient']:.2g}); of a weight at the end: "
        f"{train['largest difference of a weight']:.1e}.",
        "",
    ]


def summary(results: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if encode := results.get("encode"):
        shown = ("documents", "seconds", "vectors that differ")
        runs = {name: encode[name] for name in RUNS if name in encode}
        out["encode"] = {name: {key: run[key] for key in shown if key in run} for name, run in runs.items()}
    if train := results.get("train"):
        out["train"] = {key: value for key, value in train.items() if key.startswith("largest")}
        out["train"] |= {name: round(train[name]["seconds"], 1) for name in ("one process", "two processes")}
    return out


if __name__ == "__main__":
    main()
