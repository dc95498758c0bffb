"""Rows of a training table to features that say which side each column is on, and which texts are the same text.

Knows columns: the first is the query, the others are documents. Losses of sentence-transformers call a model without
naming the side; without the stamp a query would be encoded as a document, silently.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers.base.data_collator import BaseDataCollator


@dataclass
class DualEncoderCollator(BaseDataCollator):
    """The collator of `DualEncoderTrainer`: features stamped with `task`, and `text_id` of each text.

    Texts that are the same have the same `text_id`, by which a loss knows that a document is no negative of a query
    whose right answer it equals.
    """

    def _get_task_for_column(self, column_name: str, column_position: int, router_mapping: dict[str, str]) -> str:
        return "query" if column_position == 0 else "document"

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().__call__(features)
        for column in features[0]:
            if f"{column}_task" in batch:
                batch[f"{column}_text_id"] = torch.tensor([text_id(row[column]) for row in features])
        return batch


def text_id(text: str | list[str]) -> int:
    """A number in place of a text, or of turns: the same for the same, another for another (64 bits).

    >>> text_id("tea") == text_id("tea"), text_id(["tea", "?"]) == text_id("tea ?")
    (True, False)
    """
    content = text if isinstance(text, str) else "\0".join(["", *text])
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big", signed=True)
