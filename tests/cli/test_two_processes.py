"""`polyencoders train` as torchrun starts it: one voice, one model, the one that a single process makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

RECIPE = """
model: {{architecture: poly-3, backbone: {backbone}}}
data: {{train: {data}, validation: {data}}}
training: {{steps: 4, batch_size: 4, evaluate_every: 2, learning_rate: 1.0e-3, candidates: 5, bf16: false,
  freeze: [backbone]}}
output: {output}
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def run(*arguments, **more):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200", **more}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"query": f"Where is {i}?", "positive": f"Beside {i + 1}."} for i in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_two_processes_train_one_model_and_say_it_once(tiny_backbone, data, tmp_path):
    said = {}
    for name, started in (("two", (*TORCHRUN, "-m", "polyencoders")), ("one", ("-m", "polyencoders"))):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(RECIPE.format(backbone=tiny_backbone, data=data, output=tmp_path / name), encoding="utf-8")
        done = run(*started, "train", recipe, POLYENCODERS_CACHE=str(tmp_path / f"{name}-cache"))
        assert done.returncode == 0, done.stderr[-5000:]
        said[name] = [line for line in done.stdout.splitlines() if "before" in line or "after" in line]
        assert done.stdout.count("24 examples to train on") == 1
        assert done.stdout.count("Next: polyencoders rank") == 1
        assert "Traceback" not in done.stderr
    assert said["two"] == said["one"]
    assert len(said["one"]) >= 2
    for path in (tmp_path / "one").rglob("*.safetensors"):
        found = load_file(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        for name, expected in load_file(path).items():
            torch.testing.assert_close(found[name], expected, atol=2e-6, rtol=1e-5, msg=name)


def test_what_is_wrong_is_said_once_and_ends_all(tmp_path):
    console = Path(sys.executable).with_name("polyencoders")
    if not console.exists():
        pytest.skip("the command is not installed")
    done = run(*TORCHRUN, "--no-python", console, "train", "--data", "nowhere.jsonl", "--output", tmp_path / "out")
    assert done.returncode != 0
    assert done.stderr.count("polyencoders: nowhere.jsonl: neither a file nor a built-in data set") == 1
    assert not (tmp_path / "out").exists()


def test_other_commands_are_refused(tmp_path):
    done = run("-m", "polyencoders", "pretrain", "--data", "chitchat", WORLD_SIZE="2", RANK="0")
    assert done.returncode == 1
    assert "polyencoders: `polyencoders pretrain` runs in one process: start it without torchrun" in done.stderr
