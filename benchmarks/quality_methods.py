"""The methods of `quality.py`: an architecture, its settings, and what is different in its training.

Knows names and numbers; nothing of tasks or of how a run is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from polyencoders.training import Distillation, HardNegatives, TrainingOptions

UNTRAINED = ("bm25", "as it comes")
"""What is measured without training."""


@dataclass(frozen=True)
class Method:
    """What is built, and how its training differs from the set's.

    Attributes
    ----------
    architecture
        A short name, as the command line has it; or `maxsim`.
    settings
        Of the architecture.
    options
        Changes of the set's `TrainingOptions`.
    taught
        The method among `METHODS` that it learns from: a cross-encoder trained on the same task.
    distillation
        How it learns from that.
    mined
        Whether examples that bring no negatives get hard ones, found with the backbone as it comes.
    loss, layer, annealed
        Attempts at attention that chooses: names in `quality_attention.py`, and whether the temperature is annealed.
    """

    architecture: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    taught: str | None = None
    distillation: Distillation = field(default_factory=Distillation)
    mined: bool = False
    loss: str | None = None
    layer: str | None = None
    annealed: bool = False


NO_BIAS = {"position_bias": False}
EACH, SHARED = {"maps": "each", **NO_BIAS}, {"maps": "shared", **NO_BIAS}
SIZES = (1, 4, 16, 64, 360)
"""Numbers of codes in the paper's ablation, with 4 beside them."""

_RIVALS = {"bi": Method("bi"), "bi-attention": Method("bi-attention-4", EACH), "poly-4": Method("poly-4", EACH)}
"""Those that every way of training is tried on. `bi-attention` is `poly-4` with its codes averaged, the control."""

POSITIONS = {
    "bi-attention, positions": Method("bi-attention-4", {"maps": "each"}),
    "bi-attention-16, positions": Method("bi-attention-16", {"maps": "each"}),
    "poly-4, positions": Method("poly-4", {"maps": "each"}),
    "poly-16, positions": Method("poly-16", {"maps": "each"}),
}
"""With a position bias; the ablations are without."""

TOP = "bi-attention, positions, top 2 layers"
_STUDENTS = {
    "bi": _RIVALS["bi"],
    **{name: POSITIONS[name] for name in ("bi-attention, positions", "poly-4, positions")},
    TOP: Method("bi-attention-4", {"maps": "each"}, {"freeze": "all-but-top-2"}),
}
"""Those that a good cross-encoder teaches; the last has layers that can learn to read, on two cores."""

LONGER = "cross of 1,500 steps"
"""A cross-encoder that has had time: the `cross` of a small set is at its beginning."""

WARM = "cross-warm, hard negatives"
"""A cross-encoder that starts as the bi-encoder it is to teach."""

_BIASES = (0.0, -1.0, -4.0)
"""In place of -2: of the attention between the two texts."""

_FEW = {"negatives": 3, "steps": 400, "evaluate_every": 100}
_READ = Distillation(hard_negatives=None, random_negatives=4)
"""Lists of the examples' own or mined negatives, and what is missing to four: a slow teacher reads 20,000 pairs."""

_HARD = HardNegatives(number=4)
_LAYERS = {"no embeddings": "embeddings", "top 2 layers": "all-but-top-2", "top layer": "all-but-top-1"}

_SHARP = {**EACH, "temperature": 0.02}
_CHOOSING = {
    **{f"poly-4, temperature {t}": Method("poly-4", {**EACH, "temperature": t}) for t in (0.5, 0.2, 0.02, 0.005)},
    "poly-4, annealed": Method("poly-4", _SHARP, annealed=True),
    "poly-4, local loss": Method("poly-4", EACH, loss="local"),
    "poly-4, annealed, local loss": Method("poly-4", _SHARP, loss="local", annealed=True),
    "poly-4, mutual information": Method("poly-4", EACH, loss="mutual information"),
    "poly-4, sharp, mutual information": Method("poly-4", _SHARP, loss="mutual information"),
    "poly-4, MLP": Method("poly-4", EACH, layer="MLP"),
    "poly-4, codes see each other": Method("poly-4", EACH, layer="self-attention"),
    "poly-4, keys of their own": Method("poly-8", EACH, layer="keys"),
    **{
        f"poly-4, scaled together, temperature {t}": Method(
            "poly-4", {**EACH, "temperature": t}, layer="scaled together"
        )
        for t in (0.05, 0.2, 1.0)
    },
}
"""Attempts to make documents choose among the codes."""

METHODS: dict[str, Method] = {
    **_RIVALS,
    **POSITIONS,
    TOP: _STUDENTS[TOP],
    "poly-8": Method("poly-8", EACH),
    **{f"poly-{m}": Method(f"poly-{m}", SHARED) for m in (1, 16, 64, 360)},
    "poly-4 one map": Method("poly-4", SHARED),
    **{
        f"poly-{kind}-{m}": Method(f"poly-{kind}-{m}")
        for kind in ("first", "last", "last-and-first")
        for m in SIZES
        if m < 360
    },
    "cross": Method("cross"),
    LONGER: Method("cross", options={"steps": 1500, "evaluate_every": 150}),
    "cross, hard negatives": Method("cross", options=_FEW, mined=True),
    WARM: Method("cross-warm", options=_FEW, mined=True),
    "cross-warm": Method("cross-warm", options={**_FEW, "negatives": 7}),
    **{
        f"cross-warm, bias {bias}, hard negatives": Method("cross-warm", {"cross_bias": bias}, _FEW, mined=True)
        for bias in _BIASES
    },
    **{
        f"{name}, taught by cross-warm": Method(
            one.architecture, one.settings, one.options, taught=WARM, distillation=_READ, mined=True
        )
        for name, one in _STUDENTS.items()
    },
    "maxsim": Method("maxsim"),
    "bi-first": Method("bi", {"reduction": "first"}),
    "bi-mean-first-16": Method("bi", {"reduction": "mean-first-n", "n": 16}),
    "bi-max": Method("bi", {"reduction": "max"}),
    **{
        f"{name}, batch {size}": Method(one.architecture, one.settings, {"batch_size": size})
        for name, one in _RIVALS.items()
        for size in (8, 128)
    },
    **{
        f"{name}, {told}": Method(one.architecture, one.settings, {"freeze": what})
        for name, one in _RIVALS.items()
        for told, what in _LAYERS.items()
    },
    **{
        f"{name}, hard negatives": Method(one.architecture, one.settings, {"hard_negatives": _HARD})
        for name, one in _RIVALS.items()
    },
    **{f"{name}, taught": Method(one.architecture, one.settings, taught="cross") for name, one in _RIVALS.items()},
    **{
        f"{name}, taught by {LONGER}": Method(one.architecture, one.settings, taught=LONGER)
        for name, one in _RIVALS.items()
    },
    **_CHOOSING,
}

_MAIN = (*_RIVALS, *POSITIONS, "poly-8", "poly-16", "poly-64", "poly-360", "poly-first-16")
GROUPS: dict[str, tuple[str, ...]] = {
    "main": (*UNTRAINED, *_MAIN, "cross", "cross-warm", WARM, "maxsim"),
    "reductions": ("bi-first", "bi-mean-first-16", "bi-max", "bi", "bi-attention"),
    "codes": (
        *("poly-1", "poly-4 one map", "poly-16", "poly-64", "poly-360"),
        *(f"poly-{kind}-{m}" for kind in ("first", "last", "last-and-first") for m in SIZES if m < 360),
    ),
    "batches": tuple(f"{rival}{told}" for rival in _RIVALS for told in (", batch 8", "", ", batch 128")),
    "layers": tuple(f"{rival}{told}" for rival in _RIVALS for told in ("", *(f", {told}" for told in _LAYERS))),
    "training": (
        *("cross", LONGER, "cross, hard negatives", "cross-warm", WARM),
        *(f"cross-warm, bias {bias}, hard negatives" for bias in _BIASES),
        *(
            f"{rival}{told}"
            for rival in _RIVALS
            for told in ("", ", hard negatives", ", taught", f", taught by {LONGER}")
        ),
        *(f"{student}, taught by cross-warm" for student in _STUDENTS),
        TOP,
    ),
    "attention": (
        *("bi-attention", "poly-4", *_CHOOSING),
        *(f"poly-4, {told}" for told in ("hard negatives", "batch 128", "taught")),
    ),
}
"""Rows of a table, in its order: the main one, and the ablations."""


@dataclass(frozen=True)
class Set:
    """How much is trained, for how long; what a cross-encoder's training has in place of it."""

    title: str
    options: TrainingOptions
    cross: Mapping[str, Any]
    without: tuple[str, ...] = ()
    """Methods that make no sense in it."""

    @property
    def frozen(self) -> bool:
        """Whether codes and maps alone are trained."""
        return "backbone" in self.options.frozen


_LONG_CROSS = {"batch_size": 16, "negatives": 15, "validation_queries": 100}
_SHORT_CROSS = {
    "steps": 300,
    "batch_size": 8,
    "negatives": 7,
    "validation_queries": 100,
    "freeze": (),
    "learning_rate": 5e-5,
    "evaluate_every": 50,
}
_FROZEN = TrainingOptions(
    steps=1500, freeze="backbone", evaluate_every=75, patience=4, validation_queries=300, batch_size=32
)
_TUNED_ONLY = tuple(
    name for name, one in METHODS.items() if one.architecture in ("cross", "cross-warm") or "freeze" in one.options
)
SETS = {
    "frozen": Set(
        "Codes and linear maps on a frozen backbone, learning rate chosen on validation data",
        _FROZEN,
        _SHORT_CROSS,
        _TUNED_ONLY,
    ),
    "frozen-one-rate": Set(
        "Codes and linear maps on a frozen backbone, learning rate 1e-4",
        replace(_FROZEN, learning_rate=1e-4),
        _SHORT_CROSS,
        (*_TUNED_ONLY, "maxsim"),
    ),
    "tuned": Set(
        "Everything tuned",
        TrainingOptions(steps=2000, batch_size=64, evaluate_every=200, patience=4, validation_queries=500),
        _LONG_CROSS,
        tuple(name for name in METHODS if LONGER in name),  # the set's own is longer
    ),
    "tuned-small": Set(
        "Everything tuned in a few hundred steps",
        TrainingOptions(steps=400, batch_size=32, evaluate_every=50, patience=4, validation_queries=300),
        _SHORT_CROSS,
    ),
}
"""`tuned` is for a GPU. Ablations are run at one learning rate: a third of the time."""
