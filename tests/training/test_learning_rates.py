"""Learnt codes have a learning rate of their own: at a backbone's they hardly move."""

import pytest
import torch
from transformers import TrainerCallback

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
    assert set(groups.rates.values()) == {None, 1e-4, 1e-2}, "None: not trained"


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
