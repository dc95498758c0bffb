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

    With `packs_negatives`, negatives move up to where an example has an empty text in place of one, and columns without
    any are left out: one example with many negatives would else have as many texts encoded for each of the others. It
    is for losses to which a negative is one of all queries.
    """

    packs_negatives: bool = False

    def _get_task_for_column(self, column_name: str, column_position: int, router_mapping: dict[str, str]) -> str:
        return "query" if column_position == 0 else "document"

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        features = self._packed(features) if self.packs_negatives else features
        batch: dict[str, Any] = super().__call__(features)
        for column in features[0]:
            if f"{column}_task" in batch:
                batch[f"{column}_text_id"] = torch.tensor([text_id(row[column]) for row in features])
        return batch

    def _packed(self, features: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns rows with as few columns of negatives as hold them all; those of full columns stay where they are."""
        query, positive, *columns = features[0]
        if not {"dataset_name", *self.valid_label_columns}.isdisjoint(columns) or isinstance(self.prompts or "", dict):
            return features  # labels are of columns in their order, and prompts of columns by name
        texts = [row[column] for column in columns for row in features if row[column]]
        if len(texts) == len(columns) * len(features):
            return features
        size = len(features)
        texts += [""] * (-len(texts) % size)
        return [
            {query: row[query], positive: row[positive], **dict(zip(columns, texts[place::size], strict=False))}
            for place, row in enumerate(features)
        ]


def text_id(text: str | list[str]) -> int:
    """Returns a hash (64 bits) of a text or of turns.

    >>> text_id("tea") == text_id("tea"), text_id(["tea", "?"]) == text_id("tea ?")
    (True, False)
    """
    content = text if isinstance(text, str) else "\0".join(["", *text])
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big", signed=True)
