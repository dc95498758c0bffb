"""Why a document has its score: the query codes that it attended to, and through them the words of the query.

Knows query codes and vectors; nothing of HTTP or of how it is shown.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.encoders.protocols import QueryReading
from polyencoders.scoring.torch_score import code_weights, present_codes

NEARLY_EVEN = 0.95
"""Of the largest entropy: from here on the codes weigh nearly the same."""


class Explanation(NamedTuple):
    """Of one document: `score = sum_i w_i s_i`."""

    inner_products: NDArray[np.float64]
    """`(m,)`: `s_i = y_i . c`; 0 where the code is absent."""
    weights: NDArray[np.float64]
    """`(m,)`: `w_i = softmax_i(s_i / T)`; 0 where the code is absent."""
    score: float
    mean: float
    """The score with all weights alike: that of the averaged codes, one vector, as of a bi-encoder."""
    evenness: float
    """The entropy of the weights as a share of log(codes present), the largest it can be; 1 with a single code."""
    words: NDArray[np.float64]
    """`(words,)`: what share each word of the query has in what the document attended to, `sum_i w_i a_ij`."""

    @property
    def nearly_even(self) -> bool:
        """Whether the document hardly told the codes apart."""
        return self.evenness >= NEARLY_EVEN


def explain(reading: QueryReading, documents: NDArray[np.float32], temperature: float) -> list[Explanation]:
    """Why documents have the scores they have.

    Parameters
    ----------
    reading
        The query, as the model read it.
    documents
        `(n, d)`.
    temperature
        Of the model's softmax over the codes.

    Examples
    --------
    >>> codes = np.eye(2, dtype=np.float32)
    >>> reading = QueryReading("tea rain", "", False, [], np.zeros((2, 0), dtype=np.float32), codes)
    >>> one, = explain(reading, np.array([[2.0, 0.0]], dtype=np.float32), temperature=1.0)
    >>> one.inner_products.tolist(), one.weights.round(2).tolist(), round(one.score, 2), one.mean
    ([2.0, 0.0], [0.88, 0.12], 1.76, 1.0)
    """
    codes = torch.from_numpy(reading.codes).double()
    inner_products = torch.from_numpy(np.asarray(documents, dtype=np.float64)) @ codes.T
    there = present_codes(codes[None])[0]
    weights = code_weights(inner_products, there, temperature) * there
    present = int(there.sum())
    most = math.log(present) if present > 1 else 0.0
    entropies = torch.special.entr(weights).sum(-1)
    return [
        Explanation(
            inner_products=s.numpy(),
            weights=w.numpy(),
            score=float(w @ s),
            mean=float(s.sum()) / max(1, present),
            evenness=min(1.0, float(entropy) / most) if most else 1.0,
            words=w.numpy() @ reading.shares,
        )
        for s, w, entropy in zip(inner_products, weights, entropies, strict=True)
    ]
