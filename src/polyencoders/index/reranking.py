"""The second stage of a search: a reranker reads the best of what was found."""

from dataclasses import replace

import numpy as np

from polyencoders.encoders import Query, Reranker
from polyencoders.encoders.calibration import Calibration
from polyencoders.index.searching import Answer


def reranked(
    answer: Answer, query: Query, k: int, reranker: Reranker, calibration: Calibration | None = None
) -> Answer:
    """Return the k best of an answer by their fused scores, with probabilities of those that were read.

    The answer given holds at least the reranker's `top` where there are so many; it is kept as `first`.
    """
    scores, read = reranker.rerank(query, [hit.text for hit in answer], np.array([hit.score for hit in answer]))
    said = calibration.probability(scores).tolist() if calibration is not None else [None] * len(read)
    hits = [
        hit._replace(score=score, probability=probability if was_read else None)
        for hit, score, probability, was_read in zip(answer, scores.tolist(), said, read.tolist(), strict=True)
    ]
    best = sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]
    return replace(answer, hits=best, first=answer, read=int(read.sum()))


def with_probabilities(answer: Answer, calibration: Calibration) -> Answer:
    """Return an answer with the probability of each hit."""
    said = calibration.probability([hit.score for hit in answer]).tolist()
    return replace(answer, hits=[hit._replace(probability=p) for hit, p in zip(answer, said, strict=True)])


def at_least(answer: Answer, probability: float) -> Answer:
    """Return an answer without hits that are less probable, or whose probability is not known."""
    return replace(answer, hits=[hit for hit in answer if (hit.probability or 0.0) >= probability])
