"""Weights drawn back to where they started, so that few examples do not lead them far astray.

    w <- w_0 + (1 - pull * rate) (w - w_0)    after each step, rate: the learning rate as a share of its highest

Weight decay towards the starting point in place of 0 (L2-SP: Li, Grandvalet and Davoine 2018, arXiv 1802.01483), apart
from the gradients as in AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101). A map that starts as the identity is
drawn to the identity. Knows parameters and the trainer's callbacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from polyencoders.training.resuming import trained_weights


class Pull(TrainerCallback):
    """Draws what is trained of a model back to where it was when the run began.

    Parameters
    ----------
    model
        As it is before the first step.
    pull
        At the highest learning rate.
    start
        A file that holds the weights the run began with: a run that goes on is drawn to those. Written where it is
        missing; None: nothing is kept.
    """

    def __init__(self, model: nn.Module, pull: float, start: Path | None = None) -> None:
        self.pull = pull
        self.trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
        self.start = trained_weights(model, start)

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        group = optimizer.param_groups[0]
        rate = group["lr"] / group["initial_lr"]
        for name, weights in self.trained.items():
            weights.lerp_(self.start[name].to(weights.device), self.pull * rate)
