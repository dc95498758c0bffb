"""Two processes do what one would do with the whole batch."""

import os
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
import os, sys
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from transformers import TrainerCallback, set_seed
from polyencoders import CrossEncoder, PolyEncoder
from polyencoders.data import Example
from polyencoders.training import InBatchCrossEntropy, TrainingOptions, train
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

examples = [Example(f"Where is {i}?", f"Beside {i + 1}.") for i in range(24)]
options = TrainingOptions(steps=12, batch_size=2, evaluate_every=4, learning_rate=1e-3, negatives=3, candidates=5)
def build(architecture):
    set_seed(0)
    return architecture(backbone, device="cpu")
train(build(PolyEncoder), examples, examples[:10], f"{out}/poly", options)
train(build(CrossEncoder), examples, examples[:10], f"{out}/cross", options)
# Without validation, so that the last weights are compared, and not those of a step before the interruption.
train(build(PolyEncoder), examples, (), f"{out}/whole", options)
try:
    train(build(PolyEncoder), examples, (), f"{out}/again", options, callbacks=[Interrupt()])
except KeyboardInterrupt:
    PartialState().wait_for_everyone()
    train(build(PolyEncoder), examples, (), f"{out}/again", options)
"""


@pytest.fixture(scope="module")
def folder(tiny_backbone, tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        added = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        added |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment = {**os.environ, **{name: str(value) for name, value in added.items()}}
        command = [sys.executable, "-c", WORKER, tiny_backbone, str(out), repr(ROWS)]
        with (out / f"{rank}.log").open("w") as log:
            processes.append(subprocess.Popen(command, env=environment, stderr=log))
    codes = [process.wait(timeout=240) for process in processes]
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


@pytest.mark.parametrize("name", ["poly", "cross"])
def test_a_run_on_two_processes_saves_one_model(name, folder):
    assert (folder / name / "modules.json").exists()
    assert not (folder / name / "checkpoints").exists()


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
