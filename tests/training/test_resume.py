"""A run that was interrupted and called again ends with the weights of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from polyencoders import PolyEncoder
from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, train
from polyencoders.training.losses import InBatchCrossEntropy
from polyencoders.training.resume import last_checkpoint


class Interrupt(TrainerCallback):
    """The user's Ctrl-C after a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


# 24 pairs in batches of 4: six steps an epoch. Checkpoints after steps 4 and 8, in the second epoch, and the last.
OPTIONS = TrainingOptions(
    steps=10, batch_size=4, evaluate_every=4, negatives=3, learning_rate=1e-3, candidates=5, patience=None
)
RUNS = {
    "poly": ("poly", {"m": 3}, {}),
    "bi, two towers": ("bi", {"shared_tower": False}, {}),
    "poly with cached gradients": ("poly", {"codes": "first", "m": 2}, {"mini_batch_size": 3}),
    "cross, sampled negatives": ("cross", {}, {}),
    "cross with a warm start": ("cross-warm", {}, {}),
    "ARC-II": ("arc-ii", {"query_length": 16, "document_length": 16}, {}),
    "drawn back to the start": ("poly", {}, {"pull": 0.2}),
    "hard negatives": (
        "poly",
        {},
        {"hard_negatives": {"number": 2, "ranks": [0, 8], "refresh_every": 3}, "evaluate_every": 5},
    ),
    "frozen backbone": ("poly", {"document_map": True}, {"freeze": "backbone"}),
}


def with_options(**changes):
    return TrainingOptions(**{**{k: getattr(OPTIONS, k) for k in OPTIONS.__dataclass_fields__}, **changes})


@pytest.fixture
def interrupted(tmp_path):
    """`interrupted(model, step, ...)`: the folder of a run that was interrupted after a step."""

    def interrupted(model, step, *args, options=OPTIONS, folder="interrupted", loss=None):
        with pytest.raises(KeyboardInterrupt):
            train(model, *args, output_dir=tmp_path / folder, options=options, callbacks=[Interrupt(step)], loss=loss)
        assert (tmp_path / folder / "checkpoints").is_dir()
        assert not (tmp_path / folder / "modules.json").exists()
        return tmp_path / folder

    return interrupted


@pytest.mark.parametrize("run", RUNS)
def test_same_weights_after_an_interruption(run, build, examples, weights, assert_same, interrupted, tmp_path):
    architecture, settings, changes = RUNS[run]
    options = with_options(**changes)
    whole = build(architecture, **settings)
    train(whole, examples, output_dir=tmp_path / "whole", options=options)
    folder = interrupted(build(architecture, **settings), 9, examples, options=options)
    again = build(architecture, **settings)
    result = train(again, examples, output_dir=folder, options=options)
    assert result.steps == 10
    assert_same(weights(again), weights(whole))
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("step", [1, 7])
def test_before_a_checkpoint_and_after_one_where_an_epoch_ends(
    step, build, examples, weights, assert_same, interrupted
):
    options = with_options(evaluate_every=6)
    whole = build("poly")
    train(whole, examples, options=options)
    again = build("poly")
    folder = interrupted(build("poly"), step, examples, options=options)
    train(again, examples, output_dir=folder, options=options)
    assert_same(weights(again), weights(whole))


@pytest.mark.parametrize("pull", [0.0, 0.3])
def test_new_weights_need_no_seed_to_resume(pull, build, examples, weights, assert_same, interrupted):
    options = with_options(pull=pull)
    whole = build("poly", seed=1)
    train(whole, examples, options=options)
    folder = interrupted(build("poly", seed=1), 9, examples, options=options)
    again = build("poly", seed=2)
    train(again, examples, output_dir=folder, options=options)
    assert_same(weights(again), weights(whole))


def test_the_same_best_checkpoint_and_history(build, examples, weights, assert_same, interrupted, tmp_path):
    whole = build("poly")
    first = train(whole, examples[:20], examples[20:], tmp_path / "whole", OPTIONS)
    folder = interrupted(build("poly"), 9, examples[:20], examples[20:])
    again = build("poly")
    second = train(again, examples[:20], examples[20:], folder, OPTIONS)
    assert first.history == second.history
    assert [step for step, _ in first.history] == [4, 8, 10]
    assert (first.best_step, first.before, first.after) == (second.best_step, second.before, second.after)
    assert_same(weights(again), weights(whole))


def test_early_stopping_counts_on(build, examples, weights, assert_same, interrupted, rigged):
    values = [0.1, 0.5, 0.4, 0.3, 0.4, 0.3, 0.2, 0.1]
    options = with_options(patience=3, evaluate_every=2, steps=15)
    rigged([0, *values])
    whole = build("poly")
    first = train(whole, examples[:20], examples[20:], options=options)
    assert (first.steps, first.best_step) == (10, 4)
    rigged([0, *values])
    folder = interrupted(build("poly"), 7, examples[:20], examples[20:], options=options)
    rigged([0, *values[3:]])
    again = build("poly")
    second = train(again, examples[:20], examples[20:], folder, options)
    assert (second.steps, second.best_step, second.history) == (first.steps, first.best_step, first.history)
    assert_same(weights(again), weights(whole))


@pytest.mark.parametrize("validate", [False, True])
def test_a_disk_full_at_the_end_costs_nothing(
    validate, build, examples, weights, assert_same, rigged, tmp_path, monkeypatch
):
    """All steps are done but the model could not be saved: the next call takes no step and saves it."""
    options = with_options(patience=2, evaluate_every=2 if validate else 8)
    values = [0.1, 0.5, 0.4, 0.3, 0.2, 0.1]
    validation = examples[20:] if validate else ()
    rigged([0, *values])
    whole = build("poly")
    first = train(whole, examples[:20], validation, options=options)
    assert first.steps == (8 if validate else 10)

    rigged([0, *values])
    save = PolyEncoder.save_pretrained

    def full(self, path, *args, **kwargs):
        if Path(path).name == "run":
            raise OSError(28, "No space left on device")
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(PolyEncoder, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        train(build("poly"), examples[:20], validation, tmp_path / "run", options)
    assert not (tmp_path / "run" / "modules.json").exists()
    monkeypatch.setattr(PolyEncoder, "save_pretrained", save)

    rigged([0])
    again = build("poly")
    second = train(again, examples[:20], validation, tmp_path / "run", options, callbacks=[Interrupt(0), NoStep()])
    assert (second.steps, second.best_step, second.history) == (first.steps, first.best_step, first.history)
    assert second.after == first.after
    assert_same(weights(again), weights(whole))
    assert_same(weights(PolyEncoder(str(tmp_path / "run"), device="cpu")), weights(whole))


class NoStep(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        raise AssertionError("a step was taken")


@pytest.mark.parametrize("state", [None, "", '{"global_step": 12, "ep'])
def test_a_checkpoint_without_its_whole_state_is_not_the_last(state, tmp_path):
    for step in (8, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    (tmp_path / "checkpoint-12" / "trainer_state.json").unlink()
    if state is not None:
        (tmp_path / "checkpoint-12" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert last_checkpoint(tmp_path / "none") is None


def test_a_half_written_checkpoint_is_ignored(build, examples, weights, assert_same, interrupted):
    whole = build("poly")
    train(whole, examples, options=OPTIONS)
    folder = interrupted(build("poly"), 9, examples)
    newest = folder / "checkpoints" / "checkpoint-8"
    (newest / "optimizer.pt").write_bytes(b"half of")
    (newest / "trainer_state.json").unlink()
    again = build("poly")
    train(again, examples, output_dir=folder, options=OPTIONS)
    assert_same(weights(again), weights(whole))


def test_a_model_left_half_trained_goes_on(build, examples, weights, assert_same, interrupted):
    """As in a notebook: the cell is run again, and its model is no longer as it was."""
    whole, half = build("poly"), build("poly")
    train(whole, examples, options=OPTIONS)
    folder = interrupted(half, 9, examples)
    train(half, examples, output_dir=folder, options=OPTIONS)
    assert_same(weights(half), weights(whole))


def test_another_run_in_the_same_folder_is_refused(build, examples, interrupted):
    folder = interrupted(build("poly"), 9, examples)
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())

    def refused(what, model, examples, validation=(), loss=None, folder=folder, **changes):
        with pytest.raises(TrainingError, match=f"interrupted run with other {what}:") as error:
            train(model, examples, validation, folder, with_options(**changes), loss=loss)
        assert "\n" not in str(error.value)

    refused("options", build("poly"), examples, learning_rate=2e-3)
    refused("options", build("poly"), examples, seed=1)
    refused("data", build("poly"), examples[1:])
    refused("data", build("poly"), examples[::-1])
    refused("validation", build("poly"), examples, examples[:12])
    refused("model", build("poly", m=5), examples)
    refused("model", build("poly", temperature=3.0), examples)
    refused("model", build("bi", reduction="attention"), examples)
    other = build("poly")
    with torch.no_grad():
        next(other.parameters()).mul_(2)  # another backbone of the same shape
    refused("model", other, examples)
    refused("loss", build("poly"), examples, loss=InBatchCrossEntropy)
    with_loss = interrupted(build("poly"), 9, examples, folder="with a loss", loss=InBatchCrossEntropy)
    refused("loss", build("poly"), examples, folder=with_loss)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == kept


def test_what_a_run_is_was_written_whole(build, examples, interrupted):
    folder = interrupted(build("poly"), 1, examples)
    assert set(json.loads((folder / "checkpoints" / "run.json").read_text())) == {
        "model",
        "data",
        "validation",
        "options",
    }
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["run.json"]


def test_seeds(build, examples, weights, assert_same):
    trained = []
    for seed in (0, 0, 1):
        model = build("poly")
        train(model, examples, options=with_options(seed=seed, steps=4))
        trained.append(weights(model))
    assert_same(trained[0], trained[1])
    with pytest.raises(AssertionError):
        assert_same(trained[0], trained[2])


KILLED = """
import sys
from transformers import set_seed
from polyencoders import PolyEncoder
from polyencoders.data import Example
from polyencoders.training import TrainingOptions, train

set_seed(0)
model = PolyEncoder(sys.argv[1], device="cpu")
examples = [Example(f"Where is {i}?", f"Beside {i + 1}.") for i in range(24)]
train(model, examples, output_dir=sys.argv[2], options=TrainingOptions(steps=24, batch_size=4, evaluate_every=2))
"""


def test_same_weights_after_kill_9(build, tiny_backbone, weights, assert_same, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", KILLED, tiny_backbone, tmp_path / "killed"], env=environment)
    while not list(tmp_path.glob("killed/checkpoints/checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.01)
    # Any moment of a step or of a checkpoint, the first included.
    time.sleep(random.uniform(0, 0.5))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    examples = [Example(f"Where is {i}?", f"Beside {i + 1}.") for i in range(24)]
    options = TrainingOptions(steps=24, batch_size=4, evaluate_every=2)
    again, whole = build("poly"), build("poly")
    train(again, examples, output_dir=tmp_path / "killed", options=options)
    train(whole, examples, options=options)
    assert_same(weights(again), weights(whole))
