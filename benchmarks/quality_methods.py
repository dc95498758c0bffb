"""The methods of `quality.py`: architectures, their settings, and changes of their training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from polyencoders.training import Distillation, HardNegatives, TrainingOptions

UNTRAINED = ("bm25", "as it comes")
"""Methods that are not trained."""


@dataclass(frozen=True)
class Method:
    """What is built, and how its training differs from the set's.

    Attributes
    ----------
    architecture
        A name as on the command line, or `maxsim`.
    settings
        Settings of the architecture.
    options
        Changes of the set's `TrainingOptions`.
    taught
        The method that teaches it, a cross-encoder trained on the same task.
    distillation
        How it is taught.
    mined
        Whether hard negatives are mined with the backbone as it comes, for sets without negatives.
    loss, layer, annealed
        Names in `quality_attention.py`, and whether the temperature is annealed.
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
"""Numbers of codes: those of the paper's ablation, and 4."""

_RIVALS = {"bi": Method("bi"), "bi-attention": Method("bi-attention-4", EACH), "poly-4": Method("poly-4", EACH)}
"""The methods of all ablations. `bi-attention` is the control: `poly-4` with its codes averaged."""

POSITIONS = {
    "bi-attention, positions": Method("bi-attention-4", {"maps": "each"}),
    "bi-attention-16, positions": Method("bi-attention-16", {"maps": "each"}),
    "poly-4, positions": Method("poly-4", {"maps": "each"}),
    "poly-16, positions": Method("poly-16", {"maps": "each"}),
}
"""Methods with a position bias. The ablations have none."""

TOP = "bi-attention, positions, top 2 layers"
_STUDENTS = {
    "bi": _RIVALS["bi"],
    **{name: POSITIONS[name] for name in ("bi-attention, positions", "poly-4, positions")},
    TOP: Method("bi-attention-4", {"maps": "each"}, {"freeze": "all-but-top-2"}),
}
"""The methods that a good cross-encoder teaches; the last also trains two layers of its backbone."""

LONGER = "cross of 1,500 steps"
"""A cross-encoder trained for longer: the `cross` of a small set has not converged."""

WARM = "cross-warm, hard negatives"
"""A cross-encoder that starts as the bi-encoder that it teaches."""

ONE_WAY = "cross-one-way, hard negatives"
"""Documents read the query, which reads nobody. Trained until validation stops rising: a step costs a third."""

_BIASES = (0.0, -1.0, -4.0)
"""Biases of the attention between the two texts; the default is -2."""

_FEW = {"negatives": 3, "steps": 400, "evaluate_every": 100}
_UNTIL_IT_STOPS = {"negatives": 3, "steps": 1600, "evaluate_every": 200, "patience": 5, "validation_queries": 500}
_READ = Distillation(hard_negatives=None, random_negatives=4)
"""Four negatives an example: its own or mined ones, and random ones. A slow teacher reads 20,000 pairs."""

REAL = "ms-marco-MiniLM-L-12-v2"
"""A cross-encoder that was trained elsewhere, on the queries of a search engine: what `--teacher` names."""
_JUDGED = Distillation(cross_entropy=0.0)
"""The teacher's judgement alone of the example's own candidates and of what the student finds."""

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
"""Attempts to make documents choose among the codes: see `quality_attention.py`."""

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
    ONE_WAY: Method("cross-one-way", options=_UNTIL_IT_STOPS, mined=True),
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
    **{
        f"{name}, {told} by {REAL}": Method(
            one.architecture, one.settings, one.options, taught=REAL, distillation=learnt
        )
        for name, one in _STUDENTS.items()
        for told, learnt in (("taught", Distillation()), ("judged", _JUDGED))
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
    "main": (*UNTRAINED, *_MAIN, "cross", "cross-warm", WARM, ONE_WAY, "maxsim"),
    "reductions": ("bi-first", "bi-mean-first-16", "bi-max", "bi", "bi-attention"),
    "codes": (
        *("poly-1", "poly-4 one map", "poly-16", "poly-64", "poly-360"),
        *(f"poly-{kind}-{m}" for kind in ("first", "last", "last-and-first") for m in SIZES if m < 360),
    ),
    "batches": tuple(f"{rival}{told}" for rival in _RIVALS for told in (", batch 8", "", ", batch 128")),
    "layers": tuple(f"{rival}{told}" for rival in _RIVALS for told in ("", *(f", {told}" for told in _LAYERS))),
    "training": (
        *("cross", LONGER, "cross, hard negatives", "cross-warm", WARM, ONE_WAY),
        *(f"cross-warm, bias {bias}, hard negatives" for bias in _BIASES),
        *(
            f"{rival}{told}"
            for rival in _RIVALS
            for told in ("", ", hard negatives", ", taught", f", taught by {LONGER}")
        ),
        *(
            f"{student}, {told}"
            for student in _STUDENTS
            for told in ("taught by cross-warm", f"taught by {REAL}", f"judged by {REAL}")
        ),
        TOP,
    ),
    "attention": (
        *("bi-attention", "poly-4", *_CHOOSING),
        *(f"poly-4, {told}" for told in ("hard negatives", "batch 128", "taught")),
    ),
}
"""The methods of each table, in order: the main table, and the ablations."""


@dataclass(frozen=True)
class Set:
    """What is trained, and for how long.

    Attributes
    ----------
    title
        The title of the section in the report.
    options
        The options of all trainings.
    cross
        Changes of the options for cross-encoders.
    without
        Methods that make no sense in this set.
    in_corpus
        Whether validation ranks a set's corpus, where it has one, and not sampled lists.
    """

    title: str
    options: TrainingOptions
    cross: Mapping[str, Any]
    without: tuple[str, ...] = ()
    in_corpus: bool = False

    @property
    def frozen(self) -> bool:
        """Whether only codes and maps are trained."""
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
    name for name, one in METHODS.items() if one.architecture.startswith("cross") or "freeze" in one.options
)
SETS = {
    "frozen": Set(
        "Codes and linear maps on a frozen backbone, learning rate chosen on validation data",
        _FROZEN,
        _SHORT_CROSS,
        _TUNED_ONLY,
    ),
    "chosen-well": Set(
        "The same, with more validation queries, and in a set's corpus where it has one; all explicit negatives",
        replace(_FROZEN, validation_queries=1000),
        _SHORT_CROSS,
        (*_TUNED_ONLY, "maxsim"),
        in_corpus=True,
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
"""`tuned` is for a GPU. Ablations run at one learning rate, in a third of the time."""
