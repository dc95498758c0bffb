"""Vectors in, scores out: no text, no models, no PyTorch.

`score_all_pairs` is the definition of the score. `PreparedDocuments` and `search` find the documents with the highest
scores among millions. `torch_score` has the same score with gradients, for training.
"""

from polyencoders.scoring.kernel import search_path
from polyencoders.scoring.prepared import PreparedDocuments, TopK, search
from polyencoders.scoring.reference import attend, attention_entropy, code_weights, present_codes, score_all_pairs
from polyencoders.scoring.rows import is_tensor
from polyencoders.scoring.selection import Selection
from polyencoders.scoring.threads import set_threads, threads

__all__ = [
    "PreparedDocuments",
    "Selection",
    "TopK",
    "attend",
    "attention_entropy",
    "code_weights",
    "is_tensor",
    "present_codes",
    "score_all_pairs",
    "search",
    "search_path",
    "set_threads",
    "threads",
]
