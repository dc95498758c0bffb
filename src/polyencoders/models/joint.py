"""What cross-encoders and ARC-II have in common: one model reads a query and a document together and scores the pair.

A `JointEncoder` is sentence-transformers' `CrossEncoder`, so that its trainer and losses work with it, whose queries
may be conversations. Nothing of a pair can be computed before it is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sentence_transformers

from polyencoders.encoders.queries import Query, join_turns
from polyencoders.encoders.ranking import as_pairs, check_lists, check_ranking, distinct, is_pair
from polyencoders.models.base import SavedModel, count_tokens


class JointEncoder(SavedModel, sentence_transformers.CrossEncoder):
    """Scores of pairs read together; use `CrossEncoder`, `WarmCrossEncoder` or `ArcII`.

    `predict` and `rank` are sentence-transformers' own, with their arguments; equal pairs are read once.
    """

    score_scale = 1.0
    """What scores are multiplied by in a loss: nothing."""

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Pairs of a query (a text, or turns) and a document to the features that `forward` takes.

        Raises
        ------
        TypeError
            An input is not a pair of a query and a document.
        """
        texts = [
            self._fit(join_turns(query, self.turn_separator), document) for query, document in as_pairs(list(inputs))
        ]
        return dict(super().preprocess(texts, prompt=prompt, **kwargs))

    def _fit(self, query: str, document: str) -> tuple[str, str]:
        """The pair, cut to what the model can read."""
        return query, document

    def is_singular_input(self, inputs: Any) -> bool:  # type: ignore[override]
        """A pair's document is a text, and a pair is not: that tells one pair from a list of pairs."""
        return is_pair(inputs)

    def predict(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Scores of pairs, as sentence-transformers' `predict` gives them; equal pairs have equal scores.

        Read twice in one batch, a pair's scores may differ in the last bit, and with it the order of equal documents.

        Raises
        ------
        TypeError
            An input is not a pair of a query and a document.
        """
        if is_pair(inputs):
            return super().predict(inputs, *args, **kwargs)
        pairs, places = distinct(as_pairs(inputs))
        scores = super().predict(pairs, *args, **kwargs)
        return [scores[place] for place in places] if isinstance(scores, list) else scores[places]

    def rank(
        self,
        query: Any,
        documents: Any,
        top_k: int | None = None,
        return_documents: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Documents by their score for one query, best first, as `DualEncoder.rank` gives them.

        Raises
        ------
        TypeError
            The query is not one, or the documents are not a list of texts.
        ValueError
            `top_k` is below 1.
        """
        check_ranking(documents, top_k)
        return super().rank(query, documents, top_k, return_documents, *args, **kwargs)

    def score_lists(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[str]],
        batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> list[np.ndarray]:
        """Scores of each query with the documents of its own list.

        Parameters
        ----------
        queries
            `q` texts or conversations.
        documents
            `q` lists of texts.
        batch_size
            Pairs read at a time.
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
        if not len(queries):
            return []
        pairs = [(query, text) for query, texts in zip(queries, documents, strict=True) for text in texts]
        scores = np.asarray(self.predict(pairs, batch_size=batch_size, show_progress_bar=show_progress_bar))
        ends = np.cumsum([len(texts) for texts in documents])
        return [part.astype(np.float32) for part in np.split(scores, ends[:-1])]

    # -- the contract of `encoders/` ---------------------------------------------------------------------------------

    @property
    def architecture(self) -> str:
        """Name of the class."""
        return type(self).__name__

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines."""
        return False

    def score_pairs(self, pairs: Sequence[tuple[Query, str]], batch_size: int = 32) -> np.ndarray:
        """Scores of pairs, `(n,)`, float32; equal pairs get equal scores."""
        return np.asarray(self.predict(list(pairs), batch_size=batch_size, show_progress_bar=False), dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, as many as are read; the tokeniser is a copy of its own, so any thread may ask."""
        return count_tokens(self, texts)
