"""Models that need no weights: the score of a query and a document is a table's, or made of their letters."""

import numpy as np
import pytest
import torch


class TableRanker:
    """Answers from ``{(query, document): score}``; counts nothing, encodes nothing, like a cross-encoder."""

    def __init__(self, scores):
        self.scores = scores

    def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
        return [
            np.array([self.scores[query, text] for text in texts], dtype=np.float32)
            for query, texts in zip(queries, documents, strict=True)
        ]


class LetterEncoder:
    """A bi-encoder whose vector is how often each letter occurs; notes how many queries it compared at once."""

    dtype = torch.float32

    def __init__(self):
        self.blocks = []

    def _vectors(self, texts):
        texts = [text if isinstance(text, str) else " ".join(text) for text in texts]
        counts = [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz0123456789"] for text in texts]
        return torch.tensor(counts, dtype=self.dtype)

    def encode_query(self, queries, batch_size=32, show_progress_bar=False, convert_to_tensor=True):
        return self._vectors(queries)

    def encode_document(self, documents, batch_size=32, show_progress_bar=False, convert_to_tensor=True):
        return self._vectors(documents)

    def similarity(self, queries, documents):
        self.blocks.append(len(queries))
        return queries @ documents.T

    def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
        return [
            (self._vectors([query]) @ self._vectors(texts).T)[0].numpy()
            for query, texts in zip(queries, documents, strict=True)
        ]


@pytest.fixture
def table_ranker():
    return TableRanker


@pytest.fixture
def letter_encoder():
    return LetterEncoder()
