"""A better query side for an index whose vectors stay as they are, or nothing at all.

Codes and maps are trained on pairs, with a frozen backbone or with part of the query side's layers. Held-out pairs are
then searched in the index, with its own model and with the new one. The new model is saved and set in the index, in one
version of it, only if they confirm it.
"""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback, set_seed

from polyencoders.data import Example, split_examples
from polyencoders.errors import TrainingError
from polyencoders.evaluation import Interval, bootstrap_interval, paired_difference
from polyencoders.index import Index, Maker
from polyencoders.index.passages import kept_texts, passages_with
from polyencoders.models import BiEncoder, PolyEncoder, encode_documents, with_new_query_side
from polyencoders.training.evaluators import RETRIEVAL_MEASURES, RetrievalEvaluator
from polyencoders.training.options import TrainingOptions
from polyencoders.training.run import TrainingResult, train

Model = BiEncoder | PolyEncoder

VALIDATION, HELD_OUT = 0.2, 0.2
"""Fractions of the pairs that choose the checkpoint, and that decide."""

MOST = 500  # The most queries that choose, and that decide: each is searched in the whole index several times

FEWEST = 20  # The fewest held-out queries that can confirm anything


def ways(freeze: str | Sequence[str] = "backbone", seed: int = 0, steps: int | None = None) -> list[TrainingOptions]:
    """Returns the options of two trainings, among which validation chooses: one stays near the start, one goes further.

    Where the pairs teach little that is new, only the first is no worse than before; where they teach much, as with
    names of intents, the second gains far more (docs/design.md).

    `freeze` is as for `upgrade`; `steps` replaces the 200 and 400 steps of the two.

    >>> [(one.steps, one.pull) for one in ways()]
    [(200, 0.05), (400, 0.0)]
    """
    near = TrainingOptions(steps=steps or 200, freeze=freeze, patience=4, pull=0.05, seed=seed)
    further = replace(near, steps=steps or 400, pull=0.0)
    if "backbone" not in near.frozen:
        return [near, further]
    return [replace(near, learning_rate=1e-4), replace(further, learning_rate=3e-4)]


@dataclass(frozen=True)
class Upgrade:
    """The result of an upgrade; figures by measure, with 95% intervals, on the same held-out queries."""

    confirmed: bool  # Whether the index is now searched with the new model: the difference in MRR is surely above 0
    before: Mapping[str, Interval]  # With the old model
    after: Mapping[str, Interval]  # With the new model
    difference: Mapping[str, Interval]
    queries: int  # The number of held-out queries
    output_dir: Path | None  # Where the new model is saved; None where it was refused
    training: TrainingResult  # Of the training that was chosen
    model: Model  # The new model, even where it was refused
    judged_by: str | None = None  # The teacher that said what is right; None: the held-out pairs did


def upgrade(
    index: Index,
    pairs: Sequence[Example],
    held_out: Sequence[Example] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    options: TrainingOptions | Sequence[TrainingOptions] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_texts: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Upgrade:
    """Train a better query side for an index, and search the index with it if held-out pairs confirm it.

    The new model keeps the document side of the index's own model, so the stored vectors stay valid. Pairs are split by
    query into three parts: to train on, to choose the checkpoint by, and to decide by. Where the upgrade is refused,
    index and disk are as before. The README, "Upgrade an index you have", has an example.

    Parameters
    ----------
    index
        An index that knows its model and where it is, or that was opened with it.
    pairs
        Queries with right answers, which need not be in the index.
    held_out
        Pairs to decide by. Default: a fifth of the pairs, at most 500 queries.
    output_dir
        A new folder for the model. Default: beside the index, named after it and the model's fingerprint; required
        where the index is in object storage.
    options
        Options of training, or several to try, among which validation chooses. Default: `ways()`. `freeze`: `backbone`
        (seconds), `all-but-top-K` (minutes), or nothing (all of the query side). Documents are always frozen.
    callbacks, on_texts
        As for `train`.

    Raises
    ------
    ModelError
        The model that made the index is not known, or is not where it was.
    TrainingError
        Too few pairs, an empty index, or `output_dir` is not empty.
    """
    model, folder = prepared(index, output_dir)
    tried = [options] if isinstance(options, TrainingOptions) else list(options or ways())
    examples, validation, held_out = parts(pairs, held_out, tried[0].seed)
    vectors = missing_vectors(index, model, [*validation, *held_out])
    judge = RetrievalEvaluator(index, held_out, vectors)
    check_number(len(judge.right), "pairs in all, or a file of held-out pairs")
    chooser = RetrievalEvaluator(index, validation, vectors)

    def train_query_side(new: Model, options: TrainingOptions) -> TrainingResult:
        return train(new, examples, chooser, None, options, callbacks, on_texts)

    new, result = best_query_side(model, tried, train_query_side)
    return decide(index, model, new, result, judge, folder)


def prepared(index: Index, output_dir: str | os.PathLike[str] | None) -> tuple[Model, Path | None]:
    """Returns the model of an index that can be upgraded, and the folder for the new one, where one is given.

    Raises a `ModelError` or a `TrainingError`, as `upgrade` says.
    """
    model = index.loaded_model()
    if not isinstance(model, BiEncoder | PolyEncoder):
        raise TrainingError(
            f"{index.path}: its model is an exported one, which cannot be trained: open it with the model"
        )
    if not len(index):
        raise TrainingError(f"{index.path} is empty: there is nothing to search for held-out pairs in")
    if output_dir is None and isinstance(index.path, str):
        raise TrainingError(
            f"{index.path} is in object storage, and a model is a folder: say where it is to be saved (output_dir, or "
            "--output), at a path by which every machine that searches the index finds it"
        )
    folder = Path(output_dir) if output_dir is not None else None
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainingError(f"{folder} is there already: the new model wants a folder of its own")
    return model, folder


def check_number(queries: int, remedy: str) -> None:
    """Raises a `TrainingError` where there are too few held-out queries to decide by."""
    if queries < FEWEST:
        raise TrainingError(
            f"{queries} held-out queries can confirm nothing: at least {FEWEST} are needed, "
            f"{round(FEWEST / HELD_OUT)} {remedy}"
        )


def best_query_side(
    model: Model, tried: Sequence[TrainingOptions], train_query_side: Callable[[Model, TrainingOptions], TrainingResult]
) -> tuple[Model, TrainingResult]:
    """Trains a new query side for a model with each of the options, and returns the one that validation finds best."""

    def trained(options: TrainingOptions) -> tuple[Model, TrainingResult]:
        set_seed(options.seed)
        frozen = tuple(dict.fromkeys([*options.frozen, "documents"]))
        new = with_new_query_side(model, own_tower="backbone" not in frozen)
        return new, train_query_side(new, replace(options, freeze=frozen))

    return max(map(trained, tried), key=lambda made: made[1].after or 0)


def decide(
    index: Index,
    model: Model,
    new: Model,
    training: TrainingResult,
    judge: RetrievalEvaluator,
    folder: Path | None,
    judged_by: str | None = None,
) -> Upgrade:
    """Saves the new model and sets it in the index, if the judge's queries confirm it."""
    new.model_card_data.base_model = index.maker.name if index.maker is not None else None
    before, after = judge.values(model), judge.values(new)
    difference = {name: paired_difference(after[name], before[name]) for name in RETRIEVAL_MEASURES}
    confirmed = difference[RETRIEVAL_MEASURES[0]].low > 0
    if confirmed:
        beside = Path(index.path)
        folder = folder or beside.with_name(f"{beside.name}-model-{Maker.of(new).queries[:8]}")
        new.save_pretrained(str(folder))
        index.set_query_model(folder)
    return Upgrade(
        confirmed=confirmed,
        before={name: bootstrap_interval(before[name]) for name in RETRIEVAL_MEASURES},
        after={name: bootstrap_interval(after[name]) for name in RETRIEVAL_MEASURES},
        difference=difference,
        queries=len(judge.right),
        output_dir=folder if confirmed else None,
        training=training,
        model=new,
        judged_by=judged_by,
    )


def parts(
    pairs: Sequence[Example], held_out: Sequence[Example] | None, seed: int
) -> tuple[list[Example], list[Example], list[Example]]:
    """Returns pairs to train on, to choose by and to decide by; no query is in two of them."""
    if held_out is None:
        parts = split_examples(pairs, VALIDATION, HELD_OUT, seed)
        decide = parts.test
    else:
        asked = {example.query for example in held_out}
        parts = split_examples([example for example in pairs if example.query not in asked], VALIDATION, seed=seed)
        decide = list(held_out)
    choose, rest = _some_queries(parts.validation, seed)
    # Pairs that are not needed to choose by are trained on.
    return parts.train + rest, choose, _some_queries(decide, seed)[0]


def _some_queries(examples: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Returns the examples of `MOST` queries drawn by the seed, and those of all others."""
    queries = list(dict.fromkeys(example.query for example in examples))
    if len(queries) <= MOST:
        return examples, []
    drawn = set(random.Random(seed).sample(queries, MOST))
    return (
        [example for example in examples if example.query in drawn],
        [example for example in examples if example.query not in drawn],
    )


def missing_vectors(index: Index, model: Model, examples: Sequence[Example]) -> dict[str, NDArray[np.float32]]:
    """Returns the vectors of right answers that are not in the index, `(p, d)` of the p passages that each would be."""
    texts = list(dict.fromkeys(text for example in examples for text in example.positives))
    kept = kept_texts(index, texts)
    missing = [text for text in texts if text not in kept]
    passages = passages_with(index, missing)
    vectors = iter(encode_documents(model, list(chain(*passages))))
    return {text: np.stack([next(vectors) for _ in some]) for text, some in zip(missing, passages, strict=True)}
