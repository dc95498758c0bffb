"""The score of `reference.py` in PyTorch, with gradients: what models are trained on, and what runs on a GPU.

`attend`, `code_weights` and `present_codes` are those of `reference.py`, of tensors. Scores are computed by matrix
products, in blocks of queries and documents.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 1 << 22
"""Inner products held at a time (16 MB in float32), whatever the number of queries, documents and codes."""


def attend(inner_products: Tensor, present: Tensor, temperature: float = 1.0) -> Tensor:
    """Return `sum_i softmax(s / temperature)_i s_i` over the codes that are present: `(..., m) -> (...)`.

    >>> attend(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[True, True, False]]))
    tensor([1.])
    """
    return (code_weights(inner_products, present, temperature) * inner_products).sum(-1)


def code_weights(inner_products: Tensor, present: Tensor, temperature: float = 1.0) -> Tensor:
    """Return `softmax(s / temperature)` over the codes that are present, `(..., m)`.

    With no code present the weights mean nothing: inner products are then 0, and so is the score.
    """
    logits = (inner_products / temperature).masked_fill(~present, torch.finfo(inner_products.dtype).min)
    return logits.softmax(-1)


def present_codes(query_codes: Tensor) -> Tensor:
    """Return which codes are present: `(q, m)`, false where a code is all zeros."""
    return (query_codes != 0).any(-1)


def score_all_pairs(
    query_codes: Tensor, documents: Tensor, temperature: float = 1.0, chunk_elements: int = CHUNK_ELEMENTS
) -> Tensor:
    """Score every query with every document, as `reference.score_all_pairs` does, in at least float32.

    Differentiable. Blocks are scored one after another, and recomputed in the backward pass, so that beyond the
    `(q, n)` result no more than `chunk_elements` inner products are held.

    >>> codes = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> score_all_pairs(codes, torch.tensor([[2.0, 2.0], [0.0, 3.0]]))
    tensor([[2.0000, 2.8577]])
    """
    query_codes, documents = _checked(query_codes, documents, temperature)
    queries, codes, _ = query_codes.shape
    documents_per_block = max(1, min(len(documents), chunk_elements // max(codes, 1)))
    queries_per_block = max(1, chunk_elements // (max(codes, 1) * documents_per_block))
    if queries <= queries_per_block and len(documents) <= documents_per_block:
        return _score_block(query_codes, documents, temperature)

    recompute = torch.is_grad_enabled() and (query_codes.requires_grad or documents.requires_grad)
    rows = []
    for block in torch.split(query_codes, queries_per_block):
        columns = []
        for candidates in torch.split(documents, documents_per_block):
            if recompute:
                columns.append(checkpoint(_score_block, block, candidates, temperature, use_reentrant=False))
            else:
                columns.append(_score_block(block, candidates, temperature))
        rows.append(torch.cat(columns, dim=1))
    return torch.cat(rows)


def score_pairwise(query_codes: Tensor, documents: Tensor, temperature: float = 1.0) -> Tensor:
    """Score query i with document i: `(n, m, d)` and `(n, d)` to `(n,)`; otherwise as `score_all_pairs`.

    >>> score_pairwise(torch.ones(2, 1, 3), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]))
    tensor([6., 1.])
    """
    query_codes, documents = _checked(query_codes, documents, temperature)
    if len(query_codes) != len(documents):
        raise ValueError(_misfit(query_codes, documents))
    inner_products = torch.einsum("nmd,nd->nm", query_codes, documents)
    return attend(inner_products, present_codes(query_codes), temperature)


def _score_block(query_codes: Tensor, documents: Tensor, temperature: float) -> Tensor:
    queries, codes, _ = query_codes.shape
    inner_products = (query_codes.flatten(0, 1) @ documents.T).view(queries, codes, len(documents)).transpose(1, 2)
    return attend(inner_products, present_codes(query_codes)[:, None, :], temperature)


def _checked(query_codes: Tensor, documents: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    if query_codes.ndim != 3 or documents.ndim != 2 or query_codes.shape[-1] != documents.shape[-1]:
        raise ValueError(_misfit(query_codes, documents))
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    dtype = torch.promote_types(torch.promote_types(query_codes.dtype, documents.dtype), torch.float32)
    return query_codes.to(dtype), documents.to(dtype)


def _misfit(query_codes: Tensor, documents: Tensor) -> str:
    return (
        "expected query codes (q, m, d) and documents (n, d) of the same d, "
        f"got {tuple(query_codes.shape)} and {tuple(documents.shape)}"
    )
