"""How undecided documents are between the codes of a query: the entropy of the attention over them.

At its highest, `log m`, each document weighs all codes alike, and the score is that of their mean: one vector would
have done. Knows vectors and the score's weights; nothing of models.
"""

from __future__ import annotations

from torch import Tensor

from polyencoders.scoring.reference import code_weights, present_codes


def attention_entropy(query_codes: Tensor, documents: Tensor, temperature: float = 1.0) -> Tensor:
    """`H = - sum_i w_i log w_i` of the weights `w = softmax(s / temperature)`, the mean over all pairs, in nats.

    Parameters
    ----------
    query_codes
        `(q, m, d)`. A code of zeros is absent: a query with k codes has log k at most.
    documents
        `(n, d)`.
    temperature
        Of the softmax over the codes.

    Returns
    -------
    Tensor
        `()`, between 0 (each document attends to one code) and `log m` (to all alike).

    Raises
    ------
    ValueError
        The shapes do not fit, or there is no pair.

    Examples
    --------
    >>> import torch
    >>> attention_entropy(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[2.0, 2.0], [99.0, 0.0]]))
    tensor(0.3466)
    """
    if query_codes.ndim != 3 or documents.ndim != 2 or query_codes.shape[-1] != documents.shape[-1]:
        raise ValueError(
            "expected query codes (q, m, d) and documents (n, d) of the same d, "
            f"got {tuple(query_codes.shape)} and {tuple(documents.shape)}"
        )
    if not len(query_codes) or not len(documents):
        raise ValueError(f"no pairs: {len(query_codes)} queries and {len(documents)} documents")
    documents = documents.float()
    total = documents.new_zeros(())
    for codes in query_codes.float():
        present = present_codes(codes)
        weights = code_weights(documents @ codes.T, present, temperature) * present
        total = total - (weights * weights.clamp_min(1e-30).log()).sum()
    return total / (len(query_codes) * len(documents))
