"""Exhaustive search in blocks: where the native kernel was not built, for more codes than it takes, and on a GPU.

Blocks of documents are scored in float32 (float64 if they are). Whatever comes within the rounding error of the k-th
best score so far is scored again in float64, and those scores decide. So this finds the same documents as the kernel.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.scoring.reference import attend, present_codes, score_all_pairs
from polyencoders.scoring.rows import Rows

BLOCK_ELEMENTS = 1 << 22
"""Inner products held at a time (16 MB in float32), whatever the number of queries, documents and codes."""


def search_in_blocks(
    query_codes: NDArray[np.float64],
    rows: Rows,
    k: int,
    temperature: float,
    places: NDArray[np.int64] | None = None,
    addends: NDArray[np.float32] | None = None,
    block_elements: int = BLOCK_ELEMENTS,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the k best documents of every query, ties by index: scores and indices, `(q, k)`, best first.

    Parameters
    ----------
    query_codes
        `(q, m, d)`. Codes of zeros are absent.
    rows
        The documents, `(n, d)`, at least k of them.
    places
        Ascending: the documents among which to search; all by default.
    addends
        `(q, n)`: what is added to the score of each document.
    """
    queries, m, d = query_codes.shape
    n = rows.n if places is None else len(places)
    longest_code = np.linalg.norm(query_codes, axis=-1).max(-1, initial=0)
    unit = _unit(rows)
    best = [_Best(k) for _ in range(queries)]
    size = max(1, min(n, block_elements // max(1, queries * m)))
    for start in range(0, n, size):
        block = slice(start, min(n, start + size)) if places is None else places[start : start + size]
        numbers = np.arange(start, block.stop) if isinstance(block, slice) else block
        scores, longest = (_scores_on_device if rows.on_device else _scores)(query_codes, rows, block, temperature)
        # |s - s'| <= d u |y| |c|, sum |df/ds_i| <= 1 + range / T with range <= 2 |y| |c|, and the softmax of m codes.
        bound = longest_code * longest
        slack = 4 * (d + m + 20) * unit * bound * (1 + 2 * bound / temperature)
        added = addends[:, block].astype(np.float64) if addends is not None else np.zeros((queries, 1))
        scores = scores + added
        reached = np.full(queries, -np.inf)
        if len(numbers) >= k:
            reached = np.partition(scores, len(numbers) - k, axis=1)[:, len(numbers) - k].astype(np.float64)
        for i in range(queries):
            floor = max(reached[i], best[i].worst) - 2 * slack[i]
            candidates = numbers[scores[i] >= floor]
            for begin in range(0, len(candidates), at_once := max(1, block_elements // (m * d))):
                part = candidates[begin : begin + at_once]
                exact = score_all_pairs(query_codes[i : i + 1], rows.array(part).astype(np.float64), temperature)[0]
                best[i].offer(exact if addends is None else exact + addends[i, part], part)
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

    def offer(self, scores: NDArray[Any], indices: NDArray[np.int64]) -> None:
        scores, indices = np.concatenate([self.scores, scores]), np.concatenate([self.indices, indices])
        order = np.lexsort((indices, -scores))[: self.k]
        self.scores, self.indices = scores[order], indices[order]


def _scores(codes: NDArray[np.float64], rows: Rows, block: Any, temperature: float) -> tuple[NDArray[Any], float]:
    """Scores `(q, b)` by matrix products, and the length of the longest document."""
    documents = rows.array(block)
    queries, m, d = codes.shape
    products = documents @ codes.reshape(-1, d).astype(documents.dtype).T
    inner_products = products.reshape(len(documents), queries, m).transpose(1, 0, 2)
    scores = attend(inner_products, present_codes(codes)[:, None, :], temperature)
    return scores, float(np.linalg.norm(documents.astype(np.float64), axis=1).max(initial=0))


def _scores_on_device(codes: NDArray[np.float64], rows: Rows, block: Any, temperature: float) -> tuple[Any, float]:
    import torch

    from polyencoders.scoring.torch_score import score_all_pairs

    some = rows.matrix[block if isinstance(block, slice) else torch.from_numpy(block).to(rows.matrix.device)]
    some = some.to(torch.float64 if rows.element == "float64" else torch.float32)
    scores = score_all_pairs(torch.from_numpy(codes).to(some), some, temperature)
    return scores.cpu().numpy(), float(some.norm(dim=-1).max()) if len(some) else 0.0


def _unit(rows: Rows) -> float:
    """What one operation may lose: more than float32 promises where PyTorch is allowed faster matrix products."""
    if rows.element == "float64":
        return 2.0**-53
    exact = not rows.on_device or sys.modules["torch"].get_float32_matmul_precision() == "highest"
    return 2.0**-24 if exact else 2.0**-8
