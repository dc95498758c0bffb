"""What can be chosen of a training run, with defaults that suit a few thousand pairs and one machine.

Knows numbers and names; nothing of models or data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any

from polyencoders.errors import TrainingError

FROZEN_RATES = (1e-4, 3e-4, 1e-3)
"""Of maps on a frozen backbone: names of classes want the last, chit-chat the first (docs/results.md)."""


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
        A negative scores at most this share of the right answer's score; None: whatever it scores, for lists that a
        teacher judges.
    absolute_margin
        In place of that: a negative scores at least this much below the right answer.
    refresh_every
        Steps after which they are mined anew; None: mined once.
    """

    number: int = 4
    ranks: Sequence[int] = (0, 100)
    margin: float | None = 0.95
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
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
                raise TrainingError(f"hard_negatives: {name} must be a number of at least 0, got {value!r}")
        if self.margin is not None and self.margin > 1:
            raise TrainingError(f"hard_negatives: margin is a share of the right answer's score, got {self.margin!r}")

    def limit(self, positive: float) -> float:
        """What a negative scores at most, beside a right answer with this score."""
        if self.absolute_margin is not None:
            return positive - self.absolute_margin
        if self.margin is None:
            return inf
        return positive - (1 - self.margin) * abs(positive)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a model learns from a teacher's scores of lists of documents; see `distillation_loss.py` for the equations.

    A list is the right answer and as many wrong documents as `hard_negatives` and `random_negatives` say: the example's
    own negatives first, then hard ones, then random ones.

    Parameters
    ----------
    teacher
        Its directory, or its name on the hub.
    kl, margin_mse, cross_entropy
        Weights of the three losses: the Kullback-Leibler divergence over the lists, the squared error of the margins,
        and the cross-entropy over the batch. One of the first two is above 0.
    temperature
        Of both softmaxes of the divergence.
    hard_negatives
        Of a list: mined once, with the model as it comes (`refresh_every` is not asked); None: none.
    random_negatives
        Of a list: drawn from all documents.
    """

    teacher: str | None = None
    kl: float = 1.0
    margin_mse: float = 0.0
    cross_entropy: float = 1.0
    temperature: float = 1.0
    hard_negatives: HardNegatives | Mapping[str, Any] | None = HardNegatives(number=7, ranks=(0, 50), margin=None)
    random_negatives: int = 8

    def __post_init__(self) -> None:
        if self.teacher is not None and (not isinstance(self.teacher, str) or not self.teacher):
            raise TrainingError(f"distillation: teacher must be a directory or a name, got {self.teacher!r}")
        for name in ("kl", "margin_mse", "cross_entropy", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
                raise TrainingError(f"distillation: {name} must be a number of at least 0, got {value!r}")
        if not self.temperature:
            raise TrainingError("distillation: temperature must be above 0, got 0")
        if not self.kl and not self.margin_mse:
            raise TrainingError("distillation: kl and margin_mse are both 0, so nothing is learnt from the teacher")
        number = self.random_negatives
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise TrainingError(f"distillation: random_negatives must be a whole number of at least 0, got {number!r}")
        object.__setattr__(self, "hard_negatives", _section("hard_negatives", HardNegatives, self.hard_negatives))
        if not self.negatives:
            raise TrainingError("distillation: a list needs a wrong document; give hard_negatives or random_negatives")

    @property
    def negatives(self) -> int:
        """Documents of a list beside the right answer."""
        hard = self.hard_negatives.number if isinstance(self.hard_negatives, HardNegatives) else 0
        return hard + self.random_negatives


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The choices of a training run.

    Parameters
    ----------
    steps
        Updates of the weights.
    batch_size
        Queries in a step, of all processes together. For bi- and poly-encoders the other queries' documents are the
        negatives, so more is harder.
    learning_rate
        The highest, reached after a tenth of the steps and then falling to 0; or several, each of which is tried, and
        validation chooses. Default: 5e-5; on a frozen backbone, where a run is short, 1e-4, 3e-4 and 1e-3, or the
        second of them where there is no validation.
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
        Documents each of them ranks; default 20, and for bi- and poly-encoders every one of up to 200, such as names
        of classes: of 20, a model ranks the right one first long before it tells all of them apart.
    bf16
        Whether to compute in bf16; default: where the machine multiplies it in hardware.
    hard_negatives
        For bi- and poly-encoders: `HardNegatives`, or a mapping of its fields, mined with the model while it is
        trained, beside the in-batch ones; None: none.
    distillation
        For bi- and poly-encoders: `Distillation`, or a mapping of its fields; `distill` is what runs it. None: none.
    pull
        By how much of its way from where it started each weight is drawn back in a step, at the highest learning rate;
        0: not at all. See `pulling.py`.
    seed
        Of new weights, the order of the data, dropout and sampled negatives.
    """

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float | Sequence[float] | None = None
    code_learning_rate: float = 1e-2
    negatives: int = 15
    mini_batch_size: int | None = None
    freeze: str | Sequence[str] = ()
    evaluate_every: int | None = None
    patience: int | None = 5
    validation_queries: int = 500
    candidates: int | None = None
    bf16: bool | None = None
    hard_negatives: HardNegatives | Mapping[str, Any] | None = None
    distillation: Distillation | Mapping[str, Any] | None = None
    pull: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "negatives": 1, "validation_queries": 1, "seed": 0}
        optional = {"candidates": 2, "mini_batch_size": 1, "evaluate_every": 1, "patience": 1}
        for name, minimum in {**least, **optional}.items():
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise TrainingError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
        rate = self.learning_rate
        if isinstance(rate, list | tuple):
            object.__setattr__(self, "learning_rate", tuple(rate))
            fine = all(map(_above_0, rate)) and 0 < len(set(rate)) == len(rate)
        else:
            fine = rate is None or _above_0(rate)
        if not fine:
            raise TrainingError(f"learning_rate must be a number above 0, or several, got {rate!r}")
        if not _above_0(self.code_learning_rate):
            raise TrainingError(f"code_learning_rate must be a number above 0, got {self.code_learning_rate!r}")
        if not isinstance(self.pull, int | float) or isinstance(self.pull, bool) or not 0 <= self.pull < 1:
            raise TrainingError(f"pull must be a number of at least 0 and below 1, got {self.pull!r}")
        if self.bf16 not in (None, True, False) or isinstance(self.bf16, int) != isinstance(self.bf16, bool):
            raise TrainingError(f"bf16 must be true, false or left out, got {self.bf16!r}")
        object.__setattr__(self, "hard_negatives", _section("hard_negatives", HardNegatives, self.hard_negatives))
        object.__setattr__(self, "distillation", _section("distillation", Distillation, self.distillation))
        if self.hard_negatives and isinstance(self.distillation, Distillation) and not self.distillation.cross_entropy:
            raise TrainingError(
                "hard_negatives take part in the cross-entropy, which distillation: cross_entropy: 0 leaves out; "
                "those of its lists are distillation: hard_negatives"
            )
        if not isinstance(self.freeze, Sequence) or not all(isinstance(name, str) for name in self.freeze):
            raise TrainingError(f"freeze must be a name or a list of names, got {self.freeze!r}")

    @property
    def frozen(self) -> list[str]:
        """What is not trained, as a list."""
        return [self.freeze] if isinstance(self.freeze, str) else list(self.freeze)

    def learning_rates(self, validated: bool) -> tuple[float, ...]:
        """The rates to train at: those given, or what suits what is trained.

        Parameters
        ----------
        validated
            Whether there is validation, which can choose one of several.

        Raises
        ------
        TrainingError
            Several were given, and there is none.
        """
        if self.learning_rate is None:
            several = FROZEN_RATES if "backbone" in self.frozen else (5e-5,)
            return several if validated else (several[len(several) // 2],)
        given = self.learning_rate if isinstance(self.learning_rate, Sequence) else (self.learning_rate,)
        if len(given) > 1 and not validated:
            raise TrainingError(f"learning_rate: there is no validation to choose one of {list(given)} by; give one")
        return tuple(given)


def _above_0(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


def _section(name: str, options: type, given: Any) -> Any:
    """Options of a part of a run, given as such or as a mapping of their fields."""
    if given is None or isinstance(given, options):
        return given
    if not isinstance(given, Mapping):
        raise TrainingError(f"{name} must be keys and values, got {given!r}")
    known = [field.name for field in fields(options)]
    for key in given:
        if key not in known:
            raise TrainingError(f"{name}: unknown key {key!r}; known: {', '.join(known)}")
    return options(**given)
