"""Vectors in, scores out. Knows no text and no transformers; every other floor may call it.

`score_all_pairs` and `score_pairwise` are the score, differentiable; `PreparedDocuments` and `search` find the
documents with the highest scores among millions.
"""

from polyencoders.scoring.entropy import attention_entropy
from polyencoders.scoring.kernel import search_path
from polyencoders.scoring.prepared import PreparedDocuments, TopK, search
from polyencoders.scoring.reference import attend, code_weights, present_codes, score_all_pairs, score_pairwise
from polyencoders.scoring.selection import Selection

__all__ = [
    "PreparedDocuments",
    "Selection",
    "TopK",
    "attend",
    "attention_entropy",
    "code_weights",
    "present_codes",
    "score_all_pairs",
    "score_pairwise",
    "search",
    "search_path",
]
