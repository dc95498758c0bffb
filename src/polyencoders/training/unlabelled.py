"""An upgrade of an index without labels: a teacher reads what its queries find, and the query side learns from that.

The queries are those of a log, which nobody judged, or are drawn from the documents. `upgrade.py` does the same with
pairs.
"""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import TrainerCallback

from polyencoders.data import Example
from polyencoders.encoders.queries import Query
from polyencoders.errors import TrainingError
from polyencoders.index import Index
from polyencoders.training.drawn_queries import drawn_queries
from polyencoders.training.evaluators import RetrievalEvaluator
from polyencoders.training.options import Distillation, TrainingOptions
from polyencoders.training.run import TrainingResult, train
from polyencoders.training.teacher import Teacher
from polyencoders.training.upgrade import (
    HELD_OUT,
    Model,
    Upgrade,
    best_query_side,
    check_number,
    decide,
    parts,
    prepared,
    ways,
)

DEPTH = 10  # Documents that the teacher reads of each query

MOST_READ = 1000  # The most queries that it reads for

LEARNT = Distillation(kl=1.0, cross_entropy=1.0)


def upgrade_without_labels(
    index: Index,
    teacher: Any,
    queries: Sequence[Query] | None = None,
    most_queries: int = MOST_READ,
    output_dir: str | os.PathLike[str] | None = None,
    options: TrainingOptions | Sequence[TrainingOptions] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_texts: Callable[[str, int, int], None] = lambda what, done, total: None,
    on_pairs: Callable[[int, int], None] = lambda done, total: None,
) -> Upgrade:
    """Train a better query side for an index by a teacher's scores, and search with it if held-out queries confirm it.

    The teacher reads the best documents of each query. What it finds best counts as right: in training, where its
    scores of all of them are learnt as well, in choosing the checkpoint, and in deciding. To decide, it reads what the
    new model finds for held-out queries too, so that neither model is favoured. All of it is the teacher's judgement:
    a poor teacher may confirm a poor model. The rest is as for `upgrade`.

    Parameters
    ----------
    index
        As for `upgrade`.
    teacher
        A cross-encoder, or where to load it from; as for `distill`.
    queries
        Texts or conversations, such as the log of a search box. Default: drawn from documents of the index
        (`drawn_queries`).
    most_queries
        The most of them, drawn at random by the seed of the options.
    output_dir, options, callbacks, on_texts
        As for `upgrade`.
    on_pairs
        Told how many pairs the teacher has read, and of how many.

    Raises
    ------
    ModelError
        As for `upgrade`, or the teacher cannot be loaded.
    TrainingError
        Too few queries or documents, or as for `upgrade` and `Teacher`.
    """
    model, folder = prepared(index, output_dir)
    tried = [options] if isinstance(options, TrainingOptions) else list(options or ways())
    teaching = teacher if isinstance(teacher, Teacher) else Teacher(teacher, bf16=tried[0].bf16)
    seed = tried[0].seed
    asked = some_of(drawn_queries(index, most_queries) if queries is None else queries, most_queries, seed)
    check_number(int(HELD_OUT * len(asked)), "distinct queries in all")
    examples, scores = read_best(index, [model], asked, teaching, on_pairs)
    examples, validation, held_out = parts(examples, None, seed)
    # A list of each, all as long as the shortest: an index may hold a text twice.
    negatives = min(len(example.negatives) for example in examples)
    lists = [Example(one.query, one.positives, one.negatives[:negatives]) for one in examples]
    taught = np.stack([scores[one.query][: 1 + negatives] for one in examples])
    chooser = RetrievalEvaluator(index, validation, {})

    def train_query_side(new: Model, options: TrainingOptions) -> TrainingResult:
        options = replace(options, distillation=replace(LEARNT, teacher=teaching.name))
        return train(new, lists, chooser, None, options, callbacks, on_texts, taught)

    new, result = best_query_side(model, tried, train_query_side)
    held_out, _ = read_best(index, [model, new], [one.query for one in held_out], teaching, on_pairs)
    return decide(index, model, new, result, RetrievalEvaluator(index, held_out, {}), folder, teaching.name)


def some_of(queries: Sequence[Query], number: int, seed: int) -> list[tuple[str, ...]]:
    """Returns distinct queries as turns, at most so many, drawn at random."""
    distinct = list(dict.fromkeys((query,) if isinstance(query, str) else tuple(query) for query in queries))
    return random.Random(seed).sample(distinct, min(number, len(distinct)))


def read_best(
    index: Index,
    models: Sequence[Model],
    queries: Sequence[tuple[str, ...]],
    teacher: Teacher,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Example], dict[tuple[str, ...], NDArray[np.float32]]]:
    """Has a teacher read the documents that models find best for each of several distinct queries.

    Returns an example of each, whose right answer is the document that the teacher finds best, and whose negatives are
    the others, as the teacher ranks them; and by query, the teacher's scores in this order. Documents without a text
    cannot be read, and queries for which fewer than two others are found are left out; where that is all of them, it is
    a `TrainingError`.
    """
    texts = [query[0] if len(query) == 1 else list(query) for query in queries]
    found: list[dict[str, None]] = [{} for _ in queries]
    for model in models:
        codes = model.encode_queries(texts)
        answers = index.search(codes, k=DEPTH, temperature=model.temperature)
        for documents, answer in zip(found, answers, strict=True):
            documents.update(dict.fromkeys(hit.text for hit in answer if hit.text))
    read = [(query, documents) for query, documents in zip(queries, found, strict=True) if len(documents) > 1]
    if not read:
        raise TrainingError(
            f"{index.path}: no query finds two documents with texts, so that a teacher has nothing to compare: give "
            "pairs of a query and its right answer, or make the index with the texts"
        )
    pairs = [(query, text) for query, documents in read for text in documents]
    scored = iter(teacher.score_pairs(pairs, advance))
    examples, scores = [], {}
    for query, documents in read:
        own = np.array([next(scored) for _ in documents])
        best_first = np.argsort(-own, kind="stable")
        listed = list(documents)
        right, *others = (listed[place] for place in best_first)
        examples.append(Example(query, right, others))
        scores[query] = own[best_first]
    return examples, scores
