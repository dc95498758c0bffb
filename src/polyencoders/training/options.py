"""The options of a training run, with defaults for a few thousand pairs and one machine."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any

from polyencoders.errors import TrainingError

FROZEN_RATES = (1e-4, 3e-4, 1e-3)
"""Learning rates on a frozen backbone: chit-chat needs the first, names of classes the last (docs/results.md)."""


def check_whole_numbers(
    options: object, least: Mapping[str, int], optional: Collection[str] = (), of: str = ""
) -> None:
    """Raises a `TrainingError` where an option is not a whole number of at least its minimum, or None if optional."""
    for name, minimum in least.items():
        value = getattr(options, name)
        if value is None and name in optional:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise TrainingError(f"{of}{name} must be a whole number of at least {minimum}, got {value!r}")


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number of at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


def check_rate(options: object, name: str) -> None:
    """Raises a `TrainingError` where an option is not a number above 0."""
    if not is_number(value := getattr(options, name)) or not value:
        raise TrainingError(f"{name} must be a number above 0, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class HardNegatives:
    """How the model that is trained mines its own hard negatives; see `negatives.py`."""

    number: int = 4  # Negatives a query
    ranks: Sequence[int] = (0, 100)
    """`[a, b)`, counted from 0: the wrong documents to draw from, as the model ranks them."""
    margin: float | None = 0.95
    """A negative scores at most this fraction of the right answer's score. None: no limit."""
    absolute_margin: float | None = None
    """Replaces `margin`: a negative scores at least this much less than the right answer."""
    refresh_every: int | None = 500  # Steps between two minings; None: negatives are mined once

    def __post_init__(self) -> None:
        check_whole_numbers(self, {"number": 1, "refresh_every": 1}, ["refresh_every"], "hard_negatives: ")
        ranks = self.ranks
        whole = isinstance(ranks, list | tuple) and all(type(rank) is int for rank in ranks)
        if not whole or len(ranks) != 2 or not 0 <= ranks[0] < ranks[1] or ranks[1] - ranks[0] < self.number:
            raise TrainingError(
                f"hard_negatives: ranks must be two whole numbers [a, b) with room for {self.number}, got {ranks!r}"
            )
        object.__setattr__(self, "ranks", tuple(ranks))
        for name in ("margin", "absolute_margin"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                raise TrainingError(f"hard_negatives: {name} must be a number of at least 0, got {value!r}")
        if self.margin is not None and self.margin > 1:
            raise TrainingError(
                f"hard_negatives: margin is a fraction of the right answer's score, at most 1, got {self.margin!r}"
            )

    def limit(self, positive: float) -> float:
        """Returns the highest score that a negative may have where the right answer scores `positive`."""
        if self.absolute_margin is not None:
            return positive - self.absolute_margin
        if self.margin is None:
            return inf
        return positive - (1 - self.margin) * abs(positive)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a model learns from a teacher's scores; `DistillationLoss` has the equations.

    The teacher scores a list for each pair: the right answer, then the example's own, hard and random negatives.
    """

    teacher: str | None = None  # The teacher's directory, or its name on the hub
    kl: float = 1.0  # The weights of the three losses; `kl` or `margin_mse` must be above 0
    margin_mse: float = 0.0
    cross_entropy: float = 1.0
    temperature: float = 1.0  # Of both softmaxes in the KL divergence
    hard_negatives: HardNegatives | Mapping[str, Any] | None = HardNegatives(number=7, ranks=(0, 50), margin=None)
    """Hard negatives of a list, mined once with the model as it comes. None: none."""
    random_negatives: int = 8  # Random negatives of a list, drawn from all documents

    def __post_init__(self) -> None:
        if self.teacher is not None and (not isinstance(self.teacher, str) or not self.teacher):
            raise TrainingError(f"distillation: teacher must be a directory or a name, got {self.teacher!r}")
        for name in ("kl", "margin_mse", "cross_entropy", "temperature"):
            if not is_number(value := getattr(self, name)):
                raise TrainingError(f"distillation: {name} must be a number of at least 0, got {value!r}")
        if not self.temperature:
            raise TrainingError("distillation: temperature must be above 0, got 0")
        if not self.kl and not self.margin_mse:
            raise TrainingError("distillation: kl and margin_mse are both 0, so nothing is learnt from the teacher")
        check_whole_numbers(self, {"random_negatives": 0}, of="distillation: ")
        object.__setattr__(self, "hard_negatives", _section("hard_negatives", HardNegatives, self.hard_negatives))
        if not self.negatives:
            raise TrainingError("distillation: a list needs a wrong document; give hard_negatives or random_negatives")

    @property
    def negatives(self) -> int:
        """The number of documents of a list beside the right answer."""
        hard = self.hard_negatives.number if isinstance(self.hard_negatives, HardNegatives) else 0
        return hard + self.random_negatives


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a training run."""

    steps: int = 1000  # Updates of the weights
    batch_size: int = 32
    """Queries in a step, over all processes. For bi- and poly-encoders a larger batch has more negatives."""
    learning_rate: float | Sequence[float] | None = None
    """The highest rate, reached after a tenth of the steps; it then falls to 0. Several rates are each tried, and
    validation chooses. Default: 5e-5. On a frozen backbone: 1e-4, 3e-4 and 1e-3, or 3e-4 without validation."""
    code_learning_rate: float = 1e-2  # Learning rate of learnt codes
    negatives: int = 15  # Wrong documents a query, for a cross-encoder or ARC-II
    mini_batch_size: int | None = None  # Texts encoded at a time, with cached gradients; None: all at once
    freeze: str | Sequence[str] = ()
    """What is not trained: any of `embeddings`, `all-but-top-K`, `documents`, `backbone`."""
    evaluate_every: int | None = None
    """Steps between validations, each with a checkpoint. Default: a tenth of the steps."""
    patience: int | None = 5  # Training stops after this many validations without improvement; None: never
    validation_queries: int = 500  # The most queries to validate on
    candidates: int | None = None
    """Documents that each of them ranks. Default: 20; for a bi- or poly-encoder all, where there are at most 200."""
    bf16: bool | None = None  # Whether to compute in bf16; None: where the hardware multiplies it
    hard_negatives: HardNegatives | Mapping[str, Any] | None = None
    """For bi- and poly-encoders, also as a mapping of its fields; they join the in-batch negatives."""
    distillation: Distillation | Mapping[str, Any] | None = None  # For `distill`; also as a mapping of its fields
    pull: float = 0.0
    """The fraction of its way from the start by which a weight is drawn back in a step (`l2_sp.py`)."""
    seed: int = 0  # Of new weights, the order of the data, dropout and sampled negatives

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "negatives": 1, "validation_queries": 1, "seed": 0}
        optional = {"candidates": 2, "mini_batch_size": 1, "evaluate_every": 1, "patience": 1}
        check_whole_numbers(self, {**least, **optional}, optional)
        rate = self.learning_rate
        rates: Sequence[Any] = [] if rate is None else rate if isinstance(rate, list | tuple) else [rate]
        fine = all(is_number(one) and one > 0 for one in rates) and len(set(rates)) == len(rates)
        if not fine or (rate is not None and not rates):
            raise TrainingError(f"learning_rate must be a number above 0, or several, got {rate!r}")
        if isinstance(rate, list):
            object.__setattr__(self, "learning_rate", tuple(rate))
        check_rate(self, "code_learning_rate")
        if not is_number(self.pull) or self.pull >= 1:
            raise TrainingError(f"pull must be a number of at least 0 and below 1, got {self.pull!r}")
        if self.bf16 is not None and not isinstance(self.bf16, bool):
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
        """The names in `freeze`, as a list."""
        return [self.freeze] if isinstance(self.freeze, str) else list(self.freeze)

    def learning_rates(self, validated: bool) -> tuple[float, ...]:
        """Returns the rates to train at; several given need validation to choose by, else a `TrainingError`."""
        if self.learning_rate is None:
            several = FROZEN_RATES if "backbone" in self.frozen else (5e-5,)
            return several if validated else (several[len(several) // 2],)
        given = self.learning_rate if isinstance(self.learning_rate, Sequence) else (self.learning_rate,)
        if len(given) > 1 and not validated:
            raise TrainingError(f"learning_rate: there is no validation to choose one of {list(given)} by; give one")
        return tuple(given)


def _section(name: str, options: type, given: Any) -> Any:
    """Returns a section of the options, given as an object or as a mapping of its fields."""
    if given is None or isinstance(given, options):
        return given
    if not isinstance(given, Mapping):
        raise TrainingError(f"{name} must be keys and values, got {given!r}")
    known = [field.name for field in fields(options)]
    for key in given:
        if key not in known:
            raise TrainingError(f"{name}: unknown key {key!r}; known: {', '.join(known)}")
    return options(**given)
