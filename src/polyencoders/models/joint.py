"""What cross-encoders and ARC-II share: one model reads a query and a document together and scores the pair.

A `JointEncoder` is a `CrossEncoder` of sentence-transformers, so its trainer and losses work with it. Queries may be
conversations.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sentence_transformers
from sentence_transformers.util import import_from_string

from polyencoders.encoders.queries import Query, join_turns
from polyencoders.encoders.ranking import as_pairs, check_lists, check_ranking, distinct, hits, is_pair
from polyencoders.encoders.words import Words, fits
from polyencoders.models.base import SavedModel
from polyencoders.models.fingerprint import fingerprint


class JointEncoder(SavedModel, sentence_transformers.CrossEncoder):
    """Scores pairs read together; use `CrossEncoder`, `WarmCrossEncoder` or `ArcII`.

    `predict` and `rank` are sentence-transformers' own, with their arguments. Equal pairs are read once.
    """

    score_scale = 1.0  # The factor of scores in a loss

    def _saved_arguments(self, config: dict[str, Any]) -> dict[str, Any]:
        activation = config.get("activation_fn") or ""
        return {
            **super()._saved_arguments(config),
            "keep_in_fp32_modules": config.get("keep_in_fp32_modules"),
            # Other names would import code that the directory chooses.
            "activation_fn": import_from_string(activation)() if activation.startswith("torch.") else None,
        }

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Turn pairs of a query (a text, or turns) and a document into the features that `forward` takes.

        Raises
        ------
        TypeError
            An input is not a pair of a query and a document.
        """
        separator = self.turn_separator
        texts = [self._fit(join_turns(query, separator), text, prompt) for query, text in as_pairs(list(inputs))]
        return dict(super().preprocess(texts, prompt=prompt, **kwargs))

    def _fit(self, query: str, document: str, prompt: str | None) -> tuple[str, str]:
        """Cut a pair to what the model can read beside the prompt."""
        return query, document

    def is_singular_input(self, inputs: Any) -> bool:  # type: ignore[override]
        """Tell one pair from a list of pairs."""
        return is_pair(inputs)

    def predict(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Score pairs as sentence-transformers' `predict` does. Equal pairs are read once and have equal scores.

        Raises
        ------
        TypeError
            An input is not a pair of a query and a document.
        """
        if is_pair(inputs):
            return super().predict(inputs, *args, **kwargs)
        pairs, places = distinct(as_pairs(inputs))
        scores = self._predict_distinct(pairs, *args, **kwargs)
        return [scores[place] for place in places] if isinstance(scores, list) else scores[places]

    def _predict_distinct(self, pairs: list[tuple[Query, str]], *args: Any, **kwargs: Any) -> Any:
        """Score distinct pairs."""
        return super().predict(pairs, *args, **kwargs)

    def rank(
        self,
        query: Any,
        documents: Any,
        top_k: int | None = None,
        return_documents: bool = False,
        *args: Any,
        words: bool | float | Words | None = None,
        **kwargs: Any,
    ) -> Any:
        """Rank documents by their score for one query, best first, as `DualEncoder.rank` does.

        Raises
        ------
        TypeError
            The query is not one, or the documents are not a list of texts.
        ValueError
            `top_k` is below 1.
        """
        check_ranking(documents, top_k)
        if (asked := Words.of(words)) is not None:
            scores = self.score_lists([query], [documents])[0] + next(fits(asked, [query], documents))
            return hits(scores, documents, top_k, return_documents)
        return super().rank(query, documents, top_k, return_documents, *args, **kwargs)

    def score_lists(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[str]],
        batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> list[np.ndarray]:
        """Score each query with the documents of its own list, `batch_size` pairs at a time.

        Parameters, result and errors are those of `DualEncoder.score_lists`.
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
    def cosine(self) -> bool:
        """Whether scores are cosines."""
        return False

    @property
    def fingerprint(self) -> str:
        """Name of the weights and settings."""
        return fingerprint(self, self.configuration)

    def score_pairs(self, pairs: Sequence[tuple[Query, str]], batch_size: int = 32) -> np.ndarray:
        """Score pairs: `(n,)`, float32. Equal pairs get equal scores."""
        return np.asarray(self.predict(list(pairs), batch_size=batch_size, show_progress_bar=False), dtype=np.float32)
