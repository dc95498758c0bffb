"""Exhaustive search in PyTorch: the path for every device, and where the native kernel was not built.

Knows the reference score and float arithmetic; it finds the same documents as the kernel.

Blocks of documents are scored in float32 (float64 if they are); what comes within the rounding error of the k-th best
score so far is scored again in float64, and those scores decide.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyencoders.scoring.reference import CHUNK_ELEMENTS, score_all_pairs


def search_in_blocks(
    query_codes: Tensor, documents: Tensor, k: int, temperature: float, chunk_elements: int = CHUNK_ELEMENTS
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k best documents of every query, ties by index: scores and indices, `(q, k)`, best first.

    Parameters
    ----------
    query_codes
        `(q, m, d)`, float64. Codes of zeros are absent.
    documents
        `(n, d)`, on any device; `n >= k`.
    k
        How many.
    temperature
        Of the softmax over the codes.
    chunk_elements
        Inner products held at a time.
    """
    queries, m, d = query_codes.shape
    dtype = torch.float64 if documents.dtype == torch.float64 else torch.float32
    codes = query_codes.to(documents.device, dtype)
    unit = _unit(dtype)
    longest_code = query_codes.norm(dim=-1).amax(-1).numpy() if queries else np.zeros(0)
    best = [_Best(k) for _ in range(queries)]
    block = max(1, min(len(documents), chunk_elements // max(1, queries * m)))
    for start in range(0, len(documents), block):
        some = documents[start : start + block].to(dtype)
        scores = score_all_pairs(codes, some, temperature)
        # |s - s'| <= d u |y| |c|, sum |df/ds_i| <= 1 + range / T with range <= 2 |y| |c|, and the softmax of m codes.
        size = longest_code * float(some.norm(dim=-1).max())
        slack = 4 * (d + m + 20) * unit * size * (1 + 2 * size / temperature)
        reached = scores.topk(min(k, len(some)), dim=1).values[:, -1].double().cpu().numpy()
        if len(some) < k:
            reached[:] = -np.inf
        floors = np.array([max(reached[i], best[i].worst) - 2 * slack[i] for i in range(queries)])
        for i in range(queries):
            candidates = (scores[i] >= torch.as_tensor(floors[i], device=scores.device)).nonzero()[:, 0]
            for part in torch.split(candidates, max(1, chunk_elements // (m * d))):
                exact = _score(query_codes[i], some[part].cpu().double(), temperature)
                best[i].offer(exact.numpy(), part.cpu().numpy() + start)
    return (
        np.array([one.scores for one in best]).reshape(queries, k),
        np.array([one.indices for one in best], dtype=np.int64).reshape(queries, k),
    )


class _Best:
    """The k best documents so far, best first, ties by index."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.scores = np.empty(0, dtype=np.float64)
        self.indices = np.empty(0, dtype=np.int64)

    @property
    def worst(self) -> float:
        return float(self.scores[-1]) if len(self.scores) == self.k else -np.inf

    def offer(self, scores: NDArray[np.float64], indices: NDArray[np.int64]) -> None:
        scores, indices = np.concatenate([self.scores, scores]), np.concatenate([self.indices, indices])
        order = np.lexsort((indices, -scores))[: self.k]
        self.scores, self.indices = scores[order], indices[order]


def _score(codes: Tensor, documents: Tensor, temperature: float) -> Tensor:
    # Products summed row by row: a matrix product may round equal rows differently, and equal documents tie.
    codes = codes[(codes != 0).any(-1)]
    if len(codes) == 0:
        return documents.new_zeros(len(documents))
    inner_products = (documents[:, None, :] * codes[None]).sum(-1)
    return ((inner_products / temperature).softmax(-1) * inner_products).sum(-1)


def _unit(dtype: torch.dtype) -> float:
    """What one operation loses: less than float32 promises, where PyTorch is allowed faster matrix products."""
    if dtype == torch.float64:
        return 2.0**-53
    return 2.0**-24 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
