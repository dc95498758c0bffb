"""Lists to train a listwise head on: a right answer among the base's own best of a random sample of the documents.

The sample's size is drawn anew, from a handful to thousands, so that lists are as easy and as hard as those a head will
be given. Knows vectors and positions; nothing of text, or of how a head is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.errors import TrainingError
from polyencoders.scoring import score_all_pairs

QUERIES_AT_ONCE = 64
"""Queries whose documents are drawn from one sample."""


class Lists(NamedTuple):
    """Lists of equal length, each with one right answer at a random place."""

    queries: NDArray[np.int64]
    """`(L,)`: the query of each list."""
    documents: NDArray[np.int64]
    """`(L, n)`: its documents."""
    right: NDArray[np.int64]
    """`(L,)`: where in the list the right answer is."""


def draw_lists(
    codes: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rights: Sequence[Sequence[int]],
    temperature: float,
    length: int,
    largest: int,
    seed: Sequence[int],
) -> Lists:
    """A list for each query whose right answer is among the base's best of the sample drawn.

    Only those: a list made up of the hardest documents and a right answer that the base ranks far below them would
    never be met in use, and what a head learns of it, that a right answer is one which scores low, makes it worse than
    no head at all. A query whose answer is hard to find gets its lists from small samples.

    Parameters
    ----------
    codes
        `(q, m, d)`.
    vectors
        `(n, d)`, of distinct documents.
    rights
        For each query the positions of its right answers: one, drawn at random, is in its list, and no other is.
    temperature
        Of the base's score.
    length
        Documents of a list; fewer where there are not so many.
    largest
        Documents of a sample, at most.
    seed
        The same numbers give the same lists.

    Returns
    -------
    Lists

    Raises
    ------
    TrainingError
        There are too few documents for a list of two.

    Examples
    --------
    >>> vectors = np.eye(3, dtype=np.float32)
    >>> lists = draw_lists(vectors[:, None], vectors, [[0], [1], [2]], 1.0, length=2, largest=3, seed=[0])
    >>> lists.documents.shape
    (3, 2)
    >>> (lists.documents[np.arange(3), lists.right] == lists.queries).all()
    np.True_
    """
    rng = np.random.default_rng(seed)
    most = max(map(len, rights))
    length = min(length, len(vectors) - most + 1)
    if length < 2:
        raise TrainingError(
            f"{len(vectors)} distinct documents, of which up to {most} answer one query, leave nothing to tell apart"
        )
    # So many that, whatever right answers are among them, a list's wrong ones remain.
    smallest = length - 1 + most
    largest = max(smallest, min(largest, len(vectors)))
    made: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    order = rng.permutation(len(codes))
    for start in range(0, len(order), QUERIES_AT_ONCE):
        queries = order[start : start + QUERIES_AT_ONCE]
        size = round(float(np.exp(rng.uniform(np.log(smallest), np.log(largest)))))
        sample = rng.choice(len(vectors), size, replace=False)
        some = torch.from_numpy(codes[queries])
        scores = score_all_pairs(some, torch.from_numpy(vectors[sample]), temperature)
        scores[torch.from_numpy(np.stack([np.isin(sample, rights[query]) for query in queries]))] = -torch.inf
        best = scores.topk(length - 1)
        chosen = np.array([rights[query][int(rng.integers(len(rights[query])))] for query in queries])
        own = score_all_pairs(some, torch.from_numpy(vectors[chosen]), temperature).diagonal()
        found = (own >= best.values[:, -1]).numpy() if size > smallest else np.ones(len(queries), dtype=bool)
        documents = sample[best.indices.numpy()]
        places = rng.integers(length, size=len(queries))
        listed = np.empty((len(queries), length), dtype=np.int64)
        there = np.arange(length) == places[:, None]
        listed[there] = chosen
        listed[~there] = documents.ravel()
        made.append((queries[found], listed[found], places[found]))
    parts = [np.concatenate(part) for part in zip(*made, strict=True)]
    return Lists(*parts)
