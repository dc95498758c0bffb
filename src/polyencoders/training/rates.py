"""A run at each of several learning rates, all from the same start; the model ends as the best of them.

How fast a map may move is a matter of the data: on a frozen backbone class names want ten times the rate of chit-chat
(docs/results.md). Knows a run as something that trains a model in place; nothing of how it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from polyencoders.training.options import TrainingOptions
from polyencoders.training.result import TrainingResult
from polyencoders.training.resuming import CHECKPOINTS, checkpoint_to_resume, trained_weights

Run = Callable[[Path, TrainingOptions], TrainingResult]
"""Trains a model in place, with checkpoints in a folder; interrupted and called again, it goes on."""


def best_of_rates(
    model: nn.Module, rates: Sequence[float], folder: Path, options: TrainingOptions, run: Run
) -> TrainingResult:
    """Train at each rate, and leave the model with the weights that validation found best; of equals, the first.

    A rate's checkpoints, at most two, stay until all are done, each in a folder of its own: an interrupted run, called
    again, loads the best of the rates it had finished and goes on with the one it was at.
    """
    # A folder belongs to one run: that it tries these rates tells it from a run at one.
    checkpoint_to_resume(folder / CHECKPOINTS, {"learning rates": list(rates)})
    start = trained_weights(model, folder / CHECKPOINTS / "start.safetensors")
    best, weights, tried, seconds = None, start, {}, 0.0
    for rate in rates:
        _restore(model, start)
        result = run(folder / CHECKPOINTS / f"rate-{rate:g}", replace(options, learning_rate=rate))
        assert result.after is not None, "there is validation: it chooses"
        tried[rate] = result.after
        seconds += result.seconds
        if best is None or result.after > tried[best.learning_rate]:
            best, weights = result, trained_weights(model, None)
    assert best is not None
    _restore(model, weights)
    return replace(best, rates=tried, seconds=seconds)


@torch.no_grad()
def _restore(model: nn.Module, kept: dict[str, Tensor]) -> None:
    for name, weights in model.named_parameters():
        if name in kept:
            weights.copy_(kept[name])
