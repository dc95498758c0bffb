"""What can be chosen of a training run, with defaults that suit a few thousand pairs and one machine.

Knows numbers and names; nothing of models or data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any

from polyencoders.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class HardNegatives:
    """How hard negatives are mined with the model that is trained; see `mining.py`.

    Parameters
    ----------
    number
        Negatives a query.
    ranks
        `[a, b)`, from 0: the wrong documents among which they are drawn, by the model's ranking.
    margin
        A negative scores at most this share of the right answer's score.
    absolute_margin
        In place of that: a negative scores at least this much below the right answer.
    refresh_every
        Steps after which they are mined anew; None: mined once.
    """

    number: int = 4
    ranks: Sequence[int] = (0, 100)
    margin: float = 0.95
    absolute_margin: float | None = None
    refresh_every: int | None = 500

    def __post_init__(self) -> None:
        for name in ("number", "refresh_every"):
            value = getattr(self, name)
            if value is None and name == "refresh_every":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise TrainingError(f"hard_negatives: {name} must be a whole number of at least 1, got {value!r}")
        ranks = self.ranks
        whole = isinstance(ranks, list | tuple) and all(type(rank) is int for rank in ranks)
        if not whole or len(ranks) != 2 or not 0 <= ranks[0] < ranks[1] or ranks[1] - ranks[0] < self.number:
            raise TrainingError(
                f"hard_negatives: ranks must be two whole numbers [a, b) with room for {self.number}, got {ranks!r}"
            )
        object.__setattr__(self, "ranks", tuple(ranks))
        for name in ("margin", "absolute_margin"):
            value = getattr(self, name)
            if value is None and name == "absolute_margin":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
                raise TrainingError(f"hard_negatives: {name} must be a number of at least 0, got {value!r}")
        if self.margin > 1:
            raise TrainingError(f"hard_negatives: margin is a share of the right answer's score, got {self.margin!r}")

    def limit(self, positive: float) -> float:
        """What a negative scores at most, beside a right answer with this score."""
        if self.absolute_margin is not None:
            return positive - self.absolute_margin
        return positive - (1 - self.margin) * abs(positive)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The choices of a training run.

    Parameters
    ----------
    steps
        Updates of the weights.
    batch_size
        Queries in a step. For bi- and poly-encoders the other queries' documents are the negatives, so more is harder.
    learning_rate
        The highest, reached after a tenth of the steps and then falling to 0; 5e-5 unless the whole backbone is
        frozen, 1e-4 then.
    code_learning_rate
        Of the learnt codes, which hardly move at a backbone's rate.
    negatives
        Wrong documents a query is compared with by a cross-encoder or ARC-II.
    mini_batch_size
        Texts encoded at a time where a large batch would not fit, with gradients cached; None: all at once.
    freeze
        What is not trained: any of `embeddings`, `all-but-top-K`, `documents`, `backbone`.
    evaluate_every
        Steps between validations, each with a checkpoint; default a tenth of the steps.
    patience
        Validations without improvement after which training stops; None: never.
    validation_queries
        The most queries to validate on.
    candidates
        Documents each of them ranks.
    bf16
        Whether to compute in bf16; default: where the machine multiplies it in hardware.
    hard_negatives
        For bi- and poly-encoders: `HardNegatives`, or a mapping of its fields, mined with the model while it is
        trained, beside the in-batch ones; None: none.
    pull
        By how much of its way from where it started each weight is drawn back in a step, at the highest learning rate;
        0: not at all. See `pulling.py`.
    seed
        Of new weights, the order of the data, dropout and sampled negatives.
    """

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float | None = None
    code_learning_rate: float = 1e-2
    negatives: int = 15
    mini_batch_size: int | None = None
    freeze: str | Sequence[str] = ()
    evaluate_every: int | None = None
    patience: int | None = 5
    validation_queries: int = 500
    candidates: int = 20
    bf16: bool | None = None
    hard_negatives: HardNegatives | Mapping[str, Any] | None = None
    pull: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "negatives": 1, "validation_queries": 1, "candidates": 2, "seed": 0}
        optional = {"mini_batch_size": 1, "evaluate_every": 1, "patience": 1}
        for name, minimum in {**least, **optional}.items():
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise TrainingError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
        for name in ("learning_rate", "code_learning_rate"):
            value = getattr(self, name)
            if value is None and name == "learning_rate":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < inf:
                raise TrainingError(f"{name} must be a number above 0, got {value!r}")
        if not isinstance(self.pull, int | float) or isinstance(self.pull, bool) or not 0 <= self.pull < 1:
            raise TrainingError(f"pull must be a number of at least 0 and below 1, got {self.pull!r}")
        if self.bf16 not in (None, True, False) or isinstance(self.bf16, int) != isinstance(self.bf16, bool):
            raise TrainingError(f"bf16 must be true, false or left out, got {self.bf16!r}")
        if isinstance(self.hard_negatives, Mapping):
            unknown = sorted(set(self.hard_negatives) - {field.name for field in fields(HardNegatives)})
            if unknown:
                known = ", ".join(field.name for field in fields(HardNegatives))
                raise TrainingError(f"hard_negatives: unknown key {unknown[0]!r}; known: {known}")
            object.__setattr__(self, "hard_negatives", HardNegatives(**self.hard_negatives))
        elif self.hard_negatives is not None and not isinstance(self.hard_negatives, HardNegatives):
            raise TrainingError(f"hard_negatives must be keys and values, got {self.hard_negatives!r}")
        if not isinstance(self.freeze, Sequence) or not all(isinstance(name, str) for name in self.freeze):
            raise TrainingError(f"freeze must be a name or a list of names, got {self.freeze!r}")

    @property
    def frozen(self) -> list[str]:
        """What is not trained, as a list."""
        return [self.freeze] if isinstance(self.freeze, str) else list(self.freeze)

    @property
    def highest_learning_rate(self) -> float:
        """The learning rate given, or what suits what is trained."""
        return self.learning_rate or (1e-4 if "backbone" in self.frozen else 5e-5)
