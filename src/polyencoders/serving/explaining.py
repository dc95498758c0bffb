"""Explains the score of a document: which query codes it attended to, and which words those codes read."""

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from polyencoders.encoders import QueryReading
from polyencoders.scoring import code_weights, present_codes

NEARLY_EVEN = 0.95  # From this fraction of the largest possible entropy on, the codes weigh nearly the same


class Explanation(BaseModel):
    """The parts of one document's score, `score = sum_i w_i s_i`."""

    inner_products: list[float] = Field(description="`s_i = y_i . c` of each code; 0 where the code is absent.")
    weights: list[float] = Field(description="`w_i = softmax_i(s_i / T)` of each code; 0 where the code is absent.")
    words: list[float] = Field(description="The fraction of each query word in what the document attended to.")
    score: float
    mean: float = Field(description="The score of the averaged codes: one vector, as in a bi-encoder.")
    evenness: float = Field(description="The entropy of the weights, as a fraction of log(codes present); 1 for one.")
    nearly_even: bool = Field(description="The document hardly told the codes apart.")


def explain(reading: QueryReading, documents: NDArray[np.float32], temperature: float) -> list[Explanation]:
    """Explain the scores of document vectors `(n, d)`; the temperature is the model's.

    >>> codes = np.eye(2, dtype=np.float32)
    >>> reading = QueryReading("tea rain", "", False, [], np.zeros((2, 0), dtype=np.float32), codes)
    >>> one, = explain(reading, np.array([[2.0, 0.0]], dtype=np.float32), temperature=1.0)
    >>> one.inner_products, one.weights, round(one.score, 2), one.mean
    ([2.0, 0.0], [0.880797, 0.119203], 1.76, 1.0)
    """
    codes = reading.codes.astype(np.float64)
    present = present_codes(codes)
    number = int(present.sum())
    inner_products = documents.astype(np.float64) @ codes.T
    weights = code_weights(inner_products, present, temperature)
    entropies = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=1)
    explained = []
    for s, w, entropy in zip(inner_products, weights, entropies, strict=True):
        evenness = min(1.0, float(entropy) / math.log(number)) if number > 1 else 1.0
        explained.append(
            Explanation(
                inner_products=s.round(6).tolist(),
                weights=w.round(6).tolist(),
                words=(w @ reading.shares).round(6).tolist(),
                score=float(w @ s),
                mean=float(s.sum()) / max(1, number),
                evenness=evenness,
                nearly_even=evenness >= NEARLY_EVEN,
            )
        )
    return explained
