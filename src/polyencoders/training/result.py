"""What a training run came to, and how a model's card says it.

Knows numbers; nothing of how a run is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polyencoders.training.options import Distillation, TrainingOptions


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes
    ----------
    pairs
        Of a query and a right answer, trained on.
    learning_rate
        The highest of the run.
    steps
        Updates made.
    best_step
        The update whose weights the model has; None without validation.
    metric
        The name of what validation measured; None without it.
    before, after
        It, before training and of the weights kept.
    seconds
        Of training, its validations and the preparation of a frozen backbone's outputs included; at all rates.
    history
        `(step, value)` of each validation.
    attention_entropy
        Of a poly-encoder, on the validation lists: the entropy of a document's attention over the codes, in nats, and
        that of an attention to all codes alike.
    averaged
        Of a poly-encoder, on the same lists: the metric of its codes averaged into one vector. What the attention adds
        is `after` less this.
    rates
        Where several learning rates were tried: what validation measured in the end, by rate.
    """

    pairs: int
    learning_rate: float
    steps: int
    best_step: int | None
    metric: str | None
    before: float | None
    after: float | None
    seconds: float
    history: list[tuple[int, float]]
    attention_entropy: tuple[float, float] | None = None
    averaged: float | None = None
    rates: Mapping[float, float] = field(default_factory=dict)


def record(result: TrainingResult, options: TrainingOptions) -> dict[str, Any]:
    """What the model's card says of its training."""
    said: dict[str, Any] = {
        "Pairs": f"{result.pairs:,}",
        "Steps": f"{result.steps:,} of {options.batch_size}",
        "Learning rate": f"{result.learning_rate:g}",
        "Frozen": ", ".join(options.frozen) or "nothing",
        "Seed": options.seed,
    }
    if result.rates:
        said["Learning rates tried"] = ", ".join(f"{rate:g} ({after:.3f})" for rate, after in result.rates.items())
    if isinstance(options.distillation, Distillation):
        said["Distilled from"] = options.distillation.teacher or "a teacher"
    if result.metric is not None and result.before is not None and result.after is not None:
        said[f"Validation {result.metric}"] = (
            f"{result.before:.3f} before, {result.after:.3f} after step {result.best_step}"
        )
    if result.attention_entropy is not None:
        mean, uniform = result.attention_entropy
        said["Entropy of the attention"] = f"{mean:.2f} nats, {uniform:.2f} if all codes were alike"
    if result.averaged is not None:
        said["With its codes averaged"] = f"{result.averaged:.3f}"
    return said
