"""Learnt codes have a learning rate of their own: at a backbone's they hardly move. Of several, the best is kept."""

from dataclasses import replace

import pytest
import torch
from transformers import TrainerCallback

from polyencoders import PolyEncoder
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, train


class Groups(TrainerCallback):
    """The learning rate of each weight, by name."""

    def on_train_begin(self, args, state, control, model, optimizer, **kwargs):
        rates = {id(weights): group["initial_lr"] for group in optimizer.param_groups for weights in group["params"]}
        self.rates = {name: rates.get(id(weights)) for name, weights in model.named_parameters()}


@pytest.mark.parametrize("settings", [{"m": 3}, {"reduction": "attention"}])
def test_codes_have_their_own(settings, build, examples):
    model = build("bi" if "reduction" in settings else "poly", **settings)
    groups = Groups()
    train(model, examples, options=TrainingOptions(steps=1, batch_size=4), callbacks=[groups])
    codes = [name for name in groups.rates if name.endswith((".codes", ".biases"))]
    assert len(codes) == 2
    assert {groups.rates.pop(name) for name in codes} == {1e-2}
    assert set(groups.rates.values()) == {5e-5}


def test_both_can_be_chosen(build, examples):
    groups = Groups()
    options = TrainingOptions(steps=1, batch_size=4, learning_rate=1e-3, code_learning_rate=0.5)
    train(build("poly"), examples, options=options, callbacks=[groups])
    assert set(groups.rates.values()) == {1e-3, 0.5}


def test_a_frozen_backbone_lets_maps_learn_faster(build, examples):
    groups = Groups()
    train(build("poly"), examples, options=TrainingOptions(steps=1, freeze="backbone"), callbacks=[groups])
    assert set(groups.rates.values()) == {None, 3e-4, 1e-2}, "None: not trained"


def test_codes_move_in_twenty_steps(build, examples):
    model = build("poly", m=4)
    before = model.query_codes.codes.detach().clone()
    train(model, examples, options=TrainingOptions(steps=20, batch_size=8))
    moved = (model.query_codes.codes - before).abs().mean()
    assert moved > 0.01, "half of how far apart they start"
    assert model.query_codes.biases.abs().max() > 0.01


@pytest.mark.parametrize(("architecture", "settings"), [("bi", {}), ("poly", {"codes": "first"}), ("cross", {})])
def test_models_without_learnt_codes(architecture, settings, build, examples):
    model = build(architecture, **settings)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    train(model, examples, options=TrainingOptions(steps=2, batch_size=4, negatives=2))
    assert any(not torch.equal(weights, before[name]) for name, weights in model.state_dict().items())


RATES = [1e-3, 1e-2, 1e-4]
SEVERAL = TrainingOptions(
    steps=8, batch_size=8, evaluate_every=4, candidates=5, learning_rate=RATES, freeze="backbone", bf16=False
)


def split(examples):
    return examples[:16], examples[16:]


def validation(best):
    """What validation gives, before and twice during each run: the most at this rate."""
    return [value for rate in RATES for value in (0.1, 0.2, 0.9 if rate == best else 0.5)]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("best", RATES)
def test_of_several_the_best_is_kept(best, bf16, build, examples, weights, assert_same, rigged, tmp_path):
    """The very weights that a run at this rate alone has, be it the first, another, or the last."""
    rigged([0.1, 0.2, 0.9])
    alone = build("poly", document_map=True)
    train(alone, *split(examples), options=replace(SEVERAL, learning_rate=best, bf16=bf16))
    rigged(validation(best))
    model = build("poly", document_map=True)
    result = train(model, *split(examples), tmp_path / "run", replace(SEVERAL, bf16=bf16))
    assert (result.learning_rate, result.after, result.best_step) == (best, 0.9, 8)
    assert result.rates == {rate: 0.9 if rate == best else 0.5 for rate in RATES}
    assert result.history == [(4, 0.2), (8, 0.9)]
    assert_same(weights(model), weights(alone))
    saved = PolyEncoder(str(tmp_path / "run"), device="cpu")
    assert_same(weights(saved), weights(alone))
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert model.training_record["Learning rate"] == f"{best:g}"
    assert model.training_record["Learning rates tried"].startswith("0.001 (0.")


def test_of_equals_the_first_is_kept(build, examples, rigged):
    rigged([0.1, 0.2, 0.5] * 3)
    assert train(build("poly"), *split(examples), options=SEVERAL).learning_rate == RATES[0]


def test_all_of_a_model_is_trained_at_each(build, examples, weights, assert_same, rigged):
    rigged([0.1, 0.2, 0.9])
    options = replace(SEVERAL, freeze=(), negatives=2)
    alone = build("cross")
    train(alone, *split(examples), options=replace(options, learning_rate=RATES[1]))
    rigged(validation(RATES[1]))
    model = build("cross")
    train(model, *split(examples), options=options)
    assert_same(weights(model), weights(alone))


@pytest.fixture(scope="module")
def uninterrupted(build, examples, tmp_path_factory):
    """The result and the model of a run at several rates."""
    whole = build("poly", document_map=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYENCODERS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train(whole, *split(examples), options=SEVERAL), whole


@pytest.mark.parametrize("step", [6, 14, 22])
def test_an_interruption_at_any_rate_changes_nothing(
    step, uninterrupted, build, examples, weights, assert_same, tmp_path
):
    """Whole runs are not done again; the start is that of the first call, whatever new weights the second has."""
    expected, whole = uninterrupted
    with pytest.raises(KeyboardInterrupt):
        train(build("poly", document_map=True), *split(examples), tmp_path, SEVERAL, [InterruptAfter(step)])
    again, counter = build("poly", seed=1, document_map=True), InterruptAfter(25)
    result = train(again, *split(examples), tmp_path, SEVERAL, [counter])
    assert counter.steps == 24 - step // 4 * 4, "from the last checkpoint on"
    assert (result.rates, result.history, result.learning_rate) == (
        expected.rates,
        expected.history,
        expected.learning_rate,
    )
    assert_same(weights(again), weights(whole))


class InterruptAfter(TrainerCallback):
    """Interrupts after so many steps of all runs."""

    def __init__(self, most):
        self.most, self.steps = most, 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        if self.steps == self.most:
            raise KeyboardInterrupt


def test_several_want_validation(build, examples):
    with pytest.raises(TrainingError, match=r"no validation to choose one of \[0\.001, 0\.01, 0\.0001\] by; give one$"):
        train(build("poly"), examples, options=SEVERAL)


@pytest.mark.parametrize(("first", "second"), [(RATES, RATES[:2]), (RATES, 1e-3), (1e-3, RATES)])
def test_other_rates_in_the_folder_of_an_interrupted_run_are_refused(first, second, build, examples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(
            build("poly"),
            *split(examples),
            tmp_path,
            replace(SEVERAL, learning_rate=first),
            [InterruptAfter(5)],
        )
    with pytest.raises(TrainingError, match="holds the checkpoints of an interrupted run with other"):
        train(build("poly"), *split(examples), tmp_path, replace(SEVERAL, learning_rate=second))
    assert list(tmp_path.rglob("checkpoint-4")), "nothing is lost"
