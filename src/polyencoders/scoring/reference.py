"""The score of a poly-encoder, written once in plain numpy: the reference that every faster path is tested against.

With `s_i = y_i . c` the inner products of one document vector `c` with the query codes `y_1..y_m`, the paper's

    w = softmax(s),  y_ctx = sum_i w_i y_i,  score = y_ctx . c        (Humeau et al. 2020, section 4.4, equation 2)

is `score = sum_i softmax(s)_i s_i`. The score takes m inner products. The weighted context `y_ctx`, one vector for
every query and document, is never built.

A code of zeros is absent and takes no part in the softmax. Queries with fewer codes than m are filled up with zeros, so
the mask travels inside the vectors, through batches, caches and files. A single vector is a query with one code.

Inner products are summed row by row, never by a matrix product: a matrix product may round equal rows differently, and
equal documents must get equal scores. `torch_score.py` computes the same with gradients.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def attend(inner_products: Floats, present: NDArray[np.bool_], temperature: float = 1.0) -> Floats:
    """Return the score from its inner products: `sum_i softmax(s / temperature)_i s_i` over the codes that are present.

    `inner_products` `(..., m)` are `s_i = y_i . c`, 0 where the code is absent. `present`, broadcastable to them, is
    true where it is present; with no code present the score is 0. Temperature 1 is the paper's; towards 0 the score
    becomes the largest inner product. Returns the scores `(...)`.

    >>> attend(np.array([[1.0, 1.0, 0.0]]), np.array([[True, True, False]]))
    array([1.])
    """
    return np.asarray((code_weights(inner_products, present, temperature) * inner_products).sum(-1))


def code_weights(inner_products: Floats, present: NDArray[np.bool_], temperature: float = 1.0) -> Floats:
    """Return the weight of each code in the score: `w = softmax(s / temperature)` over the codes that are present.

    The arguments are those of `attend`. An absent code weighs 0; with none present all weights, `(..., m)`, are 0.

    >>> code_weights(np.array([2.0, 2.0, 0.0]), np.array([True, True, False]))
    array([0.5, 0.5, 0. ])
    """
    logits = np.where(present, inner_products / temperature, -np.inf)
    largest = logits.max(-1, keepdims=True, initial=-np.inf)
    shares = np.exp(logits - np.where(np.isfinite(largest), largest, 0))
    return np.asarray(shares / np.maximum(shares.sum(-1, keepdims=True), np.finfo(shares.dtype).tiny))


def present_codes(query_codes: Floats) -> NDArray[np.bool_]:
    """Return which codes are present: `(q, m)`, false where a code is all zeros.

    >>> present_codes(np.array([[[0.5, 0.0], [0.0, 0.0]]]))
    array([[ True, False]])
    """
    return np.asarray((query_codes != 0).any(-1))


def score_all_pairs(query_codes: Floats, documents: Floats, temperature: float = 1.0) -> Floats:
    """Score every query with every document.

    Parameters
    ----------
    query_codes
        `(q, m, d)`. A code of zeros is absent. `m = 1` is the bi-encoder's inner product.
    documents
        `(n, d)`.
    temperature
        Of the softmax over the codes.

    Returns
    -------
    numpy.ndarray
        `(q, n)`. Equal documents get equal scores.

    Raises
    ------
    ValueError
        The shapes do not fit, or the temperature is not above 0.

    Examples
    --------
    >>> codes = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> score_all_pairs(codes, np.array([[2.0, 2.0], [0.0, 3.0]])).round(4)
    array([[2.    , 2.8577]])
    """
    _check_shapes(query_codes, documents)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    present = present_codes(query_codes)
    scores = np.empty((len(query_codes), len(documents)), np.result_type(query_codes, documents, np.float32))
    for codes, there, row in zip(query_codes, present, scores, strict=True):
        # einsum without `optimize` multiplies row by row and calls no matrix product.
        row[:] = attend(np.einsum("nd,md->nm", documents, codes), there, temperature)
    return scores


def attention_entropy(query_codes: Floats, documents: Floats, temperature: float = 1.0) -> float:
    """Return how undecided documents are between codes: `H = - sum_i w_i log w_i`, the mean over all pairs, in nats.

    At its highest, `log m`, each document weighs all codes alike: the score is then that of their mean, and one vector
    would have done. Arguments and errors are those of `score_all_pairs`; no pair is a `ValueError`, too. A query with k
    codes that are present has log k at most.

    >>> round(attention_entropy(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[2.0, 2.0], [99.0, 0.0]])), 4)
    0.3466
    """
    _check_shapes(query_codes, documents)
    if not len(query_codes) or not len(documents):
        raise ValueError(f"no pairs: {len(query_codes)} queries and {len(documents)} documents")
    total = 0.0
    wide = np.asarray(documents, dtype=np.float64)
    for codes in np.asarray(query_codes, dtype=np.float64):
        weights = code_weights(wide @ codes.T, present_codes(codes), temperature)
        total -= float((weights * np.log(np.maximum(weights, 1e-300))).sum())
    return total / (len(query_codes) * len(documents))


def _check_shapes(query_codes: Floats, documents: Floats) -> None:
    if query_codes.ndim != 3 or documents.ndim != 2 or query_codes.shape[-1] != documents.shape[-1]:
        raise ValueError(
            "expected query codes (q, m, d) and documents (n, d) of the same d, "
            f"got {query_codes.shape} and {documents.shape}"
        )
