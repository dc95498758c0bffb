"""Vectors in, scores out. Knows no text and no transformers; every other floor may call it."""

from polyencoders.scoring.reference import attend, present_codes, score_all_pairs, score_pairwise

__all__ = ["attend", "present_codes", "score_all_pairs", "score_pairwise"]
