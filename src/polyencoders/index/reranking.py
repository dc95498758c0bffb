"""The second stage of a search: a reranker reads the best of what was found."""

from dataclasses import replace

import numpy as np

from polyencoders.encoders import Query, Reranker
from polyencoders.index.searching import Answer


def reranked(answer: Answer, query: Query, k: int, reranker: Reranker) -> Answer:
    """Return the k best of an answer by their fused scores.

    The answer given holds at least the reranker's `top` where there are so many; it is kept as `first`.
    """
    scores, read = reranker.rerank(query, [hit.text for hit in answer], np.array([hit.score for hit in answer]))
    hits = [hit._replace(score=score) for hit, score in zip(answer, scores.tolist(), strict=True)]
    best = sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]
    return replace(answer, hits=best, first=answer, read=int(read.sum()))
