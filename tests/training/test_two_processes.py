"""Two processes do what one would do with the whole batch."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from polyencoders.training import InBatchCrossEntropy
from polyencoders.training.collator import text_id

# Two rows for each process. The first's right answer, and another of its query's, are among the second's.
ROWS = [
    ["a cat", "it purrs", "no"],
    ["a dog", "it barks", "never"],
    ["a lynx", "it purrs", "it"],
    ["a cat", "mews", "x"],
]

WORKER = """
import json, sys
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from transformers import TrainerCallback, set_seed
from polyencoders import PolyEncoder
from polyencoders.training import InBatchCrossEntropy, train
from polyencoders.training.collator import text_id

backbone, out, rows = sys.argv[1], sys.argv[2], eval(sys.argv[3])
rank = PartialState(cpu=True).process_index
mine = rows[2 * rank : 2 * rank + 2]
for name, size in (("all_at_once", None), ("cached", 1)):
    set_seed(0)
    model = PolyEncoder(backbone, device="cpu", m=3).eval()
    columns = []
    for number, column in enumerate(zip(*mine)):
        encoded = model.preprocess(list(column), task="document" if number else "query")
        columns.append({**encoded, "text_id": torch.tensor([text_id(text) for text in column])})
    loss = InBatchCrossEntropy(model, size, gather_across_devices=True)(columns)
    loss.backward()
    found = {n: w.grad for n, w in model.named_parameters() if w.grad is not None} | {"loss": loss.detach()[None]}
    for tensor in found.values():
        torch.distributed.all_reduce(tensor)  # what DistributedDataParallel does, and divides
        tensor /= 2
    if rank == 0:
        save_file(found, f"{out}/{name}.safetensors")

class Interrupt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 9:
            raise KeyboardInterrupt

sys.path.insert(0, sys.argv[4])
from runs import all_runs, build, examples, OPTIONS

found = all_runs(backbone, out)
with open(f"{out}/{rank}.json", "w") as file:
    json.dump(found, file)
# Without validation, so that the last weights are compared, and not those of a step before the interruption.
train(build(PolyEncoder, backbone), examples(), (), f"{out}/whole", OPTIONS)
try:
    train(build(PolyEncoder, backbone), examples(), (), f"{out}/again", OPTIONS, callbacks=[Interrupt()])
except KeyboardInterrupt:
    PartialState().wait_for_everyone()
    train(build(PolyEncoder, backbone), examples(), (), f"{out}/again", OPTIONS)
"""

# What both worlds run: one process here, and two of their own.
RUNS = """
import json
from dataclasses import replace
from transformers import set_seed
from polyencoders import CrossEncoder, PolyEncoder
from polyencoders.data import Example
from polyencoders.training import Distillation, HardNegatives, TrainingOptions, distill, train

OPTIONS = TrainingOptions(
    steps=12, batch_size=4, evaluate_every=4, learning_rate=1e-3, negatives=3, candidates=5, bf16=False
)

def examples():
    return [Example(f"Where is {i}?", f"Beside {i + 1}.") for i in range(26)]

def with_negatives(example, number):
    return Example(example.query, example.positives, [f"Not beside {i}." for i in range(100, 100 + number)])

def build(architecture, backbone):
    set_seed(0)
    return architecture(backbone, device="cpu")

def all_runs(backbone, out):
    results = {}
    for name, architecture, options in (
        ("poly", PolyEncoder, OPTIONS),
        ("cached", PolyEncoder, replace(OPTIONS, mini_batch_size=1)),
        ("cross", CrossEncoder, OPTIONS),
        ("frozen", PolyEncoder, replace(OPTIONS, freeze=["backbone"])),
        ("rates", PolyEncoder, replace(OPTIONS, learning_rate=[1e-3, 3e-3])),
        ("mined", PolyEncoder, replace(OPTIONS, hard_negatives=HardNegatives(number=2, ranks=(0, 8), refresh_every=6))),
    ):
        results[name] = train(build(architecture, backbone), examples(), examples()[:10], f"{out}/{name}", options)
    # One pair has many negatives, most have none: the processes' parts of a batch have different numbers of them.
    for name, size in (("uneven", None), ("uneven-cached", 1)):
        results[name] = train(
            build(PolyEncoder, backbone),
            [with_negatives(one, 7 * (i == 3) + (i % 3 == 0)) for i, one in enumerate(examples())],
            examples()[:10],
            f"{out}/{name}",
            replace(OPTIONS, mini_batch_size=size),
        )
    hard = HardNegatives(number=2, ranks=(0, 8), margin=None)
    options = replace(OPTIONS, distillation=Distillation(hard_negatives=hard, random_negatives=1, margin_mse=0.1))
    teacher = build(CrossEncoder, backbone)
    results["distilled"] = distill(
        build(PolyEncoder, backbone), teacher, examples(), examples()[:10], f"{out}/distilled", options
    )
    return {name: [result.before, *(value for _, value in result.history)] for name, result in results.items()}
"""
NOTHING_TO_LEARN = ("key.bias", "layer.1.output.LayerNorm.bias")
"""A softmax does not change when all that goes into it moves alike: their gradients are rounding alone, of which Adam
makes steps."""
NAMES = ("poly", "cached", "cross", "frozen", "rates", "mined", "uneven", "uneven-cached", "distilled")


@pytest.fixture(scope="module")
def steady_backbone(tiny_backbone, tmp_path_factory):
    """Without dropout, of which each process draws its own."""
    path = tmp_path_factory.mktemp("backbone") / "tiny"
    shutil.copytree(tiny_backbone, path)
    settings = json.loads((path / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (path / "config.json").write_text(json.dumps(settings))
    return str(path)


@pytest.fixture(scope="module")
def alone(steady_backbone, tmp_path_factory):
    """The folder of the runs of one process, and what their validations measured."""
    out = tmp_path_factory.mktemp("one")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYENCODERS_CACHE", str(out / "cache"))
        exec(RUNS, found)
        return out, found["all_runs"](steady_backbone, str(out))


@pytest.fixture(scope="module")
def folder(steady_backbone, tmp_path_factory):
    """The folder of the runs of two processes."""
    out = tmp_path_factory.mktemp("two")
    (out / "runs.py").write_text(RUNS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        added = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        added |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        added |= {"POLYENCODERS_CACHE": out / "cache"}
        environment = {**os.environ, **{name: str(value) for name, value in added.items()}}
        command = [sys.executable, "-c", WORKER, steady_backbone, str(out), repr(ROWS), str(out)]
        with (out / f"{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, env=environment, stderr=log))
    try:
        codes = [process.wait(timeout=600) for process in processes]  # a shared machine may be slow
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], "\n".join((out / f"{rank}.log").read_text()[-9000:] for rank in range(2))
    return out


@pytest.mark.parametrize("name", ["all_at_once", "cached"])
def test_loss_and_gradients_of_the_whole_batch(name, folder, build):
    found = load_file(folder / f"{name}.safetensors")
    model = build("poly", m=3).eval()
    columns = []
    for number, column in enumerate(zip(*ROWS, strict=True)):
        encoded = model.preprocess(list(column), task="document" if number else "query")
        columns.append({**encoded, "text_id": torch.tensor([text_id(text) for text in column])})
    loss = InBatchCrossEntropy(model)(columns)
    loss.backward()
    assert found.pop("loss").item() == pytest.approx(loss.item(), abs=1e-5)
    gradients = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_on_two_processes_saves_one_model(name, folder):
    assert (folder / name / "modules.json").exists()
    assert not (folder / name / "checkpoints").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_on_two_processes_ends_as_one_with_the_whole_batch(name, folder, alone):
    out, measured = alone
    for rank in range(2):
        assert json.loads((folder / f"{rank}.json").read_text())[name] == pytest.approx(measured[name])
    for path in (out / name).rglob("*.safetensors"):
        found = load_file(folder / name / path.relative_to(out / name))
        for tensor, expected in load_file(path).items():
            if not tensor.endswith(NOTHING_TO_LEARN):
                torch.testing.assert_close(found[tensor], expected, atol=2e-6, rtol=1e-5, msg=tensor)


def test_a_run_on_two_processes_resumes(folder, assert_same):
    whole, again = (
        {
            (path.name, name): tensor
            for path in (folder / run).rglob("*.safetensors")
            for name, tensor in load_file(path).items()
        }
        for run in ("whole", "again")
    )
    assert_same(again, whole)
