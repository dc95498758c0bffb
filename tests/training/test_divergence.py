"""A run whose numbers run away stops with one clear line, and saves nothing."""

import pytest
import torch
from transformers import TrainerCallback

from polyencoders import PolyEncoder
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, train
from polyencoders.training.evaluators import RankingEvaluator


class Poison(TrainerCallback):
    """Spoils a weight before a step, as a bad gradient would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                next(weights for weights in model.parameters() if weights.requires_grad).fill_(float("nan"))


def stopped(message, *args, **kwargs):
    with pytest.raises(TrainingError, match=message) as error:
        train(*args, **kwargs)
    assert "\n" not in str(error.value)


OPTIONS = TrainingOptions(steps=6, batch_size=4, evaluate_every=2, negatives=2, candidates=5, learning_rate=3e-4)


@pytest.mark.parametrize("architecture", ["bi", "poly", "cross", "cross-warm", "arc-ii"])
def test_a_loss_that_is_not_a_number(architecture, build, examples, tmp_path):
    stopped(
        r"the loss became nan after 3 steps; a lower learning rate \(it is 0.0003\) is the first thing to try",
        build(architecture),
        examples,
        output_dir=tmp_path / "run",
        options=OPTIONS,
        callbacks=[Poison(3)],
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoints"]


def test_with_cached_gradients(build, examples):
    options = TrainingOptions(steps=6, batch_size=4, mini_batch_size=2)
    stopped("the loss became nan after 3 steps", build("poly"), examples, options=options, callbacks=[Poison(3)])


def test_weights_that_validation_finds_out(build, examples, tmp_path):
    stopped(
        r"validation failed \(.* scores are NaN.*\) after 4 steps; a lower learning rate \(it is 0.0003\)",
        build("poly"),
        examples[:16],
        examples[16:],
        tmp_path / "run",
        OPTIONS,
        callbacks=[Poison(4)],
    )
    assert not (tmp_path / "run" / "modules.json").exists()


def test_weights_after_the_last_step(build, examples, tmp_path):
    stopped(
        "the model's weights became infinite, or not a number, after 6 steps",
        build("poly"),
        examples,
        output_dir=tmp_path / "run",
        options=OPTIONS,
        callbacks=[Poison(6)],
    )
    assert not (tmp_path / "run" / "modules.json").exists()


@pytest.mark.parametrize("validate", [False, True])
def test_an_absurd_learning_rate_leaves_the_model_saved_before(
    validate, build, examples, weights, assert_same, tmp_path
):
    saved = build("poly")
    saved.save_pretrained(str(tmp_path / "run"))
    options = TrainingOptions(steps=20, batch_size=4, learning_rate=1e30, candidates=5)
    validation = examples[16:] if validate else ()
    stopped(r"\(it is 1e\+30\)", build("poly"), examples[:16], validation, tmp_path / "run", options, overwrite=True)
    assert_same(weights(PolyEncoder(str(tmp_path / "run"), device="cpu")), weights(saved))


def test_another_error_of_validation_is_not_blamed_on_the_learning_rate(build, examples, monkeypatch):
    def fails_while_training(self, *args, steps=None, **kwargs):
        if steps is None:
            return {self.primary_metric: 0.0}
        raise TrainingError("the cable was cut")

    monkeypatch.setattr(RankingEvaluator, "__call__", fails_while_training)
    stopped("^the cable was cut$", build("poly"), examples[:16], examples[16:], options=OPTIONS)
