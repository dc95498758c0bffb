"""Writes a model as a directory that needs no PyTorch, checked against PyTorch before it is called done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from polyencoders.encoders import Query, distinct
from polyencoders.errors import ModelError
from polyencoders.export.graphs import Interaction, OneWay, Pair, Sides, WarmPair, move_weights, write_graph
from polyencoders.export.quantise import quantise
from polyencoders.files import whole_directory
from polyencoders.models import ArcII, CrossEncoder, DualEncoder, OneWayCrossEncoder, WarmCrossEncoder
from polyencoders.runtime import load_model
from polyencoders.runtime.manifest import ENGINES, MANIFEST, TOKENIZER, Manifest, digest

PRECISIONS = ("float32", "int8", "bf16")
TOLERANCE = 1e-5
"""How far a number of a float32 graph may be from PyTorch's, where the largest number is 1."""
BEST = 10
"""Documents of a query's best that are compared."""

TEXTS = (
    "Where is my parcel?",
    "x",
    "Ich möchte mein Geld zurück, bitte!",
    "The tracking number is in the e-mail we sent when it left.",
    "今日は天気がいいですね 🙂",
    "How do I cancel? " * 12,
    "Students get 20 percent off with a valid student card; " * 40,
    "a\tb\nc  d",
)
"""Texts that every export is checked on: short, long, longer than models read, in several scripts."""
CONVERSATION = ("Hello!", "Hi, how can I help?", "The lid is broken, and nobody answers. " * 20)


class Exported(NamedTuple):
    """What was written."""

    path: Path
    bytes: int
    difference: float
    """The largest difference to PyTorch's numbers on the texts tried, where the largest number is 1."""
    kept: float | None
    """The fraction of the ten best documents of held-out queries that is the same; None where none were given."""


def export_model(
    model: DualEncoder | CrossEncoder | WarmCrossEncoder | ArcII,
    path: str | os.PathLike[str],
    precision: str = "float32",
    engine: str = "onnx",
    document_precision: str | None = None,
    queries: Sequence[Query] = (),
    documents: Sequence[str] = (),
    keep_at_least: float = 0.9,
) -> Exported:
    """Write a model to a directory that `polyencoders.load` opens without PyTorch: whole, or not at all.

    Parameters
    ----------
    model
        A model of any architecture.
    path
        The directory to make, or an exported one to replace.
    precision
        `float32`; `int8`, dynamically quantised; or `bf16`, on OpenVINO.
    engine
        `onnx` or `openvino`: what the model is run on.
    document_precision
        The precision of an encoder's document side. The default is float32 (with `bf16`: bf16), so that it makes the
        vectors that PyTorch makes and searches an index made with PyTorch. Any other makes other vectors.
    queries, documents
        Held-out queries and documents, on which a precision other than float32 is tried.
    keep_at_least
        The fraction of the ten best documents of those queries that must stay the same.

    Raises
    ------
    ModelError
        The model cannot be exported, its numbers are not PyTorch's, or too few of the best documents stay.
    """
    document_precision = document_precision or ("bf16" if precision == "bf16" else "float32")
    _check(model, Path(path), precision, document_precision, engine)
    was_training = model.training
    model.eval()
    try:
        with whole_directory(path, replaced=lambda name: True) as scratch:
            graphs, precisions = _write_graphs(model, scratch, precision, document_precision)
            (scratch / TOKENIZER).write_text(model.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
            manifest = _manifest(model, scratch, graphs, precisions, engine)
            manifest.write(scratch)
            exported = load_model(scratch)
            difference = _tried(model, exported, ENGINES[engine])
            exact = set(precisions.values()) == {"float32"}
            if difference > TOLERANCE if exact else np.isinf(difference):
                raise ModelError(
                    f"the exported {model.architecture} differs from PyTorch's by {difference:.1e} where at most "
                    f"{TOLERANCE:.0e} is allowed, so nothing was written: this backbone cannot be exported exactly"
                )
            kept = _kept(model, exported, queries, documents) if len(queries) and len(documents) else None
            if kept is not None and kept < keep_at_least:
                raise ModelError(
                    f"{precision} keeps {kept:.1%} of the {BEST} best documents of {len(queries)} queries, fewer than "
                    f"the {keep_at_least:.1%} asked for, so nothing was written: export in float32, or ask for fewer"
                )
            _write_card(model, scratch, manifest, difference, kept)
    finally:
        model.train(was_training)
    size = sum(file.stat().st_size for file in Path(path).iterdir())
    return Exported(Path(path), size, difference, kept)


def largest_difference(model: Any, exported: Any) -> float:
    """Return the largest difference between two models' numbers on `TEXTS`, where the largest number is 1."""
    queries: list[Query] = [*TEXTS, list(CONVERSATION)]
    found: list[tuple[Any, ...]]
    if isinstance(model, DualEncoder):
        found = [(one.encode_queries(queries), one.encode_documents(TEXTS, bf16=False)) for one in (model, exported)]
    else:
        asked = [(query, text) for query in queries for text in TEXTS[:4]]
        found = [(one.score_pairs(asked),) for one in (model, exported)]
    largest = 0.0
    for expected, given in zip(*found, strict=True):
        if expected.shape != given.shape or not np.isfinite(given).all():
            return float("inf")
        largest = max(largest, float(np.abs(expected - given).max() / max(1.0, float(np.abs(expected).max()))))
    return largest


def _tried(model: Any, exported: Any, engine: str) -> float:
    """The largest difference; ModelError where the engine cannot run the graph that it loaded."""
    try:
        return largest_difference(model, exported)
    except Exception as error:  # each engine has its own kinds of errors
        backbone = type(getattr(model[0], "model", model[0])).__name__
        raise ModelError(
            f"a {backbone} cannot be exported: {engine} stops at a text ({str(error).splitlines()[0][:200]}). Use it "
            "with PyTorch, or take another backbone"
        ) from error


def _check(model: Any, path: Path, precision: str, document_precision: str, engine: str) -> None:
    if engine not in ENGINES:
        raise ModelError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    for given in (precision, document_precision):
        if given not in PRECISIONS:
            raise ModelError(f"precision must be one of {', '.join(PRECISIONS)}, got {given!r}")
        if given == "bf16" and engine != "openvino":
            raise ModelError("bf16 is computed by OpenVINO: export with engine openvino, or in float32 or int8")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).exists():
        raise ModelError(f"{path} holds something other than an exported model: choose another directory")
    if getattr(model.tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(
            f"the tokeniser, a {type(model.tokenizer).__name__}, has no fast version, which an exported model needs"
        )


def _write_graphs(
    model: Any, folder: Path, precision: str, document_precision: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the graphs, and return the file and the precision of each."""
    if not isinstance(model, DualEncoder):
        if isinstance(model, OneWayCrossEncoder):
            _write_one_way(model, folder / "pair.onnx")
        else:
            module, inputs = _pair_graph(model)
            write_graph(module, inputs, {"scores": {0: "b"}}, folder / "pair.onnx")
        quantise(folder / "pair.onnx", precision)
        move_weights(folder / "pair.onnx")
        return {"pair": "pair.onnx"}, {"pair": precision}
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    precisions = {"query": precision, "document": document_precision}
    together = model.shared_tower and precision == document_precision
    files = {side: "model.onnx" if together else f"{side}.onnx" for side in precisions}
    for file in dict.fromkeys(files.values()):
        sides = [side for side in precisions if files[side] == file]
        outputs = {side: {0: "b"} for side in sides}
        if model.has_query_codes and "query" in sides:
            outputs["shares"] = {0: "b", 2: "t"}
        write_graph(Sides(model, sides), inputs, outputs, folder / file)
        quantise(folder / file, precisions[sides[0]])
        move_weights(folder / file)
    return files, precisions


def _write_one_way(model: OneWayCrossEncoder, file: Path) -> None:
    """Write one graph for queries and documents, so that the weights are there once."""
    layers, heads, width, dimension = _shape(model)
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "query": torch.zeros(1, dimension),
        "query_mask": torch.tensor([[1, 1, 0]]),
        "query_keys": torch.zeros(layers, heads, 3, width),
        "query_values": torch.zeros(layers, heads, 3, width),
    }
    of_query = {"query": {}, "query_mask": {1: "q"}, "query_keys": {2: "q"}, "query_values": {2: "q"}}
    kept = {1: "b", 3: "t"}
    outputs = {"scores": {0: "b"}, "vectors": {0: "b"}, "keys": kept, "values": kept}
    write_graph(OneWay(model), inputs, outputs, file, of_query)


@torch.no_grad()
def _shape(model: OneWayCrossEncoder) -> tuple[int, int, int, int]:
    """The layers, their heads, the numbers of a key, and those of a vector."""
    ids = torch.tensor([[5]], device=model.device)
    vectors, memory = model.read(ids, torch.ones_like(ids))
    _, heads, _, width = memory.layers[0][0].shape
    return len(memory.layers), heads, width, vectors.shape[1]


def _settings(model: Any) -> dict[str, Any]:
    """What only one architecture has."""
    if isinstance(model, OneWayCrossEncoder):
        return {"shape": _shape(model)}
    return {"first_position": model.saved_settings["first_position"]} if isinstance(model, WarmCrossEncoder) else {}


def _pair_graph(model: Any) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 0]])
    if isinstance(model, WarmCrossEncoder):
        sides = torch.tensor([[0, 0, 1, 1], [0, 1, 1, -1]])
        positions = torch.tensor([[2, 3, 2, 3], [2, 2, 3, 2]])
        return WarmPair(model), {"input_ids": ids, "position_ids": positions, "sides": sides}
    if isinstance(model, ArcII):
        made = model.preprocess([("a b c", "d e"), ("f", "g")])
        names = ("query_ids", "query_mask", "document_ids", "document_mask")
        return Interaction(model), {name: made[name] for name in names}
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])}
    if "token_type_ids" in model.tokenizer.model_input_names:
        inputs["token_type_ids"] = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])
    return Pair(model), inputs


def _manifest(model: Any, folder: Path, graphs: dict[str, str], precisions: dict[str, str], engine: str) -> Manifest:
    dual = isinstance(model, DualEncoder)
    made_by = tuple(model.fingerprints) if dual else ("", "")
    if dual and precisions["document"] != "float32":
        made_by = (f"{made_by[0]}-{precisions['document']}", made_by[1])
    return Manifest(
        architecture=model.architecture,
        engine=engine,
        graphs=graphs,
        precision=precisions,
        digests={file.name: digest(file) for file in sorted(folder.iterdir())},
        turn_separator=model.turn_separator,
        query_length=getattr(model, "query_length", None) or model.max_seq_length,
        document_length=getattr(model, "document_length", None) or model.max_seq_length,
        max_length=model.max_seq_length,
        padding=int(model.tokenizer.pad_token_id or 0),
        cosine=model.cosine,
        dimension=model.dimension if dual else 0,
        temperature=model.temperature if dual else 1.0,
        prompts={side: text for side, text in model.prompts.items() if text},
        fingerprints=made_by,
        codes=dual and model.has_query_codes,
        settings=_settings(model),
    )


def _kept(model: Any, exported: Any, queries: Sequence[Query], documents: Sequence[str]) -> float:
    """The fraction of each query's ten best documents that both models find."""
    texts, _ = distinct(documents)
    found = [one.score_lists(list(queries), [texts] * len(queries)) for one in (model, exported)]
    best = [[set(np.argsort(-scores, kind="stable")[:BEST].tolist()) for scores in lists] for lists in found]
    return float(np.mean([len(expected & given) / len(expected) for expected, given in zip(*best, strict=True)]))


def _write_card(model: Any, folder: Path, manifest: Manifest, difference: float, kept: float | None) -> None:
    rows = {
        "Architecture": manifest.architecture,
        "Engine": ENGINES[manifest.engine],
        "Precision": ", ".join(f"{side} {name}" for side, name in manifest.precision.items()),
        "Largest difference to PyTorch": f"{difference:.1e}",
        **({} if kept is None else {"Ten best documents kept, on held-out queries": f"{kept:.1%}"}),
        **model.card_properties(),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    text = f"""---
library_name: polyencoders
pipeline_tag: text-ranking
tags: [polyencoders, onnx, text-ranking]
---

# A {manifest.architecture}, exported by polyencoders

It runs without PyTorch: `pip install polyencoders`.

```python
import polyencoders

model = polyencoders.load("this directory")
print(model.rank("it does not start", ["Hold the power button for ten seconds.", "Send us a photo of the lid."]))
```

| | |
|---|---|
{table}

<!-- results:begin -->
<!-- results:end -->
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
