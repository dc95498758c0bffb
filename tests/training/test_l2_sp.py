"""Weights are drawn back to where they started, by the formula."""

from types import SimpleNamespace

import torch
from torch import nn

from polyencoders.training import TrainingOptions, train
from polyencoders.training.l2_sp import L2SP


def test_the_formula():
    model = nn.Linear(3, 3)
    model.bias.requires_grad_(False)
    start = model.weight.detach().clone()
    pull = L2SP(model, 0.2)
    with torch.no_grad():
        model.weight += 1
        model.bias += 1
    bias = model.bias.clone()
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5e-4, "initial_lr": 1e-4}])
    pull.on_step_end(None, None, None, optimizer=optimizer)
    assert torch.allclose(model.weight, start + (1 - 0.2 * 0.5))
    assert torch.equal(model.bias, bias)


def test_a_pull_keeps_maps_near_the_identity(build, examples):
    away = []
    for pull in (0.0, 0.05, 0.5):
        model = build("poly")
        options = TrainingOptions(steps=12, batch_size=8, learning_rate=1e-2, freeze="backbone", pull=pull)
        train(model, examples, options=options)
        away.append(float((model.query_codes.linear_maps.detach() - torch.eye(16)).norm()))
    assert away[0] > away[1] > 2 * away[2] > 0
