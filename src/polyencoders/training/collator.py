"""Rows of a training table as features that say which side each column is on, and which texts are the same.

The first column is the query, the others are documents. sentence-transformers' losses call a model without naming the
side; without this stamp a query would silently be encoded as a document.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers.base.data_collator import BaseDataCollator


@dataclass
class DualEncoderCollator(BaseDataCollator):
    """The collator of `DualEncoderTrainer`: its features have `task`, the side, and `text_id` of each text.

    Equal texts have equal `text_id`. By it a loss knows that a document is no negative of a query whose right answer it
    equals.
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
    """Returns a hash (64 bits) of a text or of turns.

    >>> text_id("tea") == text_id("tea"), text_id(["tea", "?"]) == text_id("tea ?")
    (True, False)
    """
    content = text if isinstance(text, str) else "\0".join(["", *text])
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big", signed=True)
