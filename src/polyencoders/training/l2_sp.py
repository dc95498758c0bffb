"""L2-SP: weights are drawn back to where they started, so that few examples do not lead them astray.

    w <- w_0 + (1 - pull * rate) (w - w_0)    after each step; rate: the learning rate as a fraction of its highest

This is weight decay towards the starting point in place of 0 (Li, Grandvalet and Davoine 2018, arXiv 1802.01483),
decoupled from the gradients as in AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from polyencoders.training.resume import trained_weights


class L2SP(TrainerCallback):
    """Draws the trained weights of a model back to where they were when the run began, kept in the file `start`."""

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
