"""Ranking by models that encode a query and a document apart: each distinct text once, then a score of vectors.

Knows lists and vectors; what is encoded how, and what the score is, the models say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from polyencoders.models.ranking import Hit, check_lists, check_ranking, distinct, hits
from polyencoders.models.text import Query


class VectorRanking:
    """`rank` and `score_lists` of whatever has `encode_query`, `encode_document` and `similarity`."""

    encode_query: Callable[..., Any]
    encode_document: Callable[..., Any]
    similarity: Any

    def rank(
        self,
        query: Query,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> list[Hit]:
        """Documents by their score for one query, best first.

        Parameters
        ----------
        query
            A text, or a list of turns, the oldest first.
        documents
            Texts.
        top_k
            How many to return; all by default.
        return_documents
            Whether each hit carries its text.
        batch_size
            Texts encoded at a time.
        show_progress_bar
            Whether to show one.

        Returns
        -------
        list of Hit
            `[{"corpus_id", "score", "text"}]`; equal scores in the order given.

        Raises
        ------
        TypeError
            The query is not one, or the documents are not a list of texts.
        ValueError
            `top_k` is below 1.
        """
        check_ranking(documents, top_k)
        scores = self.score_lists([query], [documents], batch_size, bool(show_progress_bar))[0]
        return hits(scores, documents, top_k, return_documents)

    def score_lists(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[str]],
        batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> list[np.ndarray]:
        """Scores of each query with the documents of its own list; each distinct text is encoded once.

        Parameters
        ----------
        queries
            `q` texts or conversations.
        documents
            `q` lists of texts.
        batch_size
            Texts encoded at a time.
        show_progress_bar
            Whether to show one.

        Returns
        -------
        list of numpy.ndarray
            `q` float32 arrays, as long as the lists.

        Raises
        ------
        TypeError
            They are not lists of queries and of lists of texts.
        ValueError
            There are more of the one than of the other.
        """
        check_lists(queries, documents)
        texts, places = distinct([text for candidates in documents for text in candidates])
        if not texts:
            return [np.empty(0, dtype=np.float32) for _ in queries]
        query_vectors = self._encoded(self.encode_query, queries, batch_size, show_progress_bar)
        document_vectors = self._encoded(self.encode_document, texts, batch_size, show_progress_bar)
        scores, start = [], 0
        for vectors, candidates in zip(query_vectors, documents, strict=True):
            chosen = document_vectors[places[start : start + len(candidates)]]
            scores.append(self.similarity(vectors[None], chosen)[0].float().cpu().numpy())
            start += len(candidates)
        return scores

    @staticmethod
    def _encoded(encode: Callable[..., Any], texts: Sequence[Any], batch_size: int, progress: bool | None) -> Tensor:
        vectors: Tensor = encode(
            list(texts), batch_size=batch_size, show_progress_bar=bool(progress), convert_to_tensor=True
        )
        return vectors
