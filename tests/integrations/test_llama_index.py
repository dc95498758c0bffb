"""LlamaIndex's query engines, without an LLM, over our models and index."""

import asyncio
import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyencoders.errors import IndexingError, ModelError

pytest.importorskip("llama_index.core", reason="needs polyencoders[llamaindex]")

from llama_index.core import Settings, get_response_synthesizer
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.mock import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from polyencoders.integrations.llama_index import Conversation, PolyencodersRerank, PolyencodersRetriever


@pytest.fixture
def given(documents):
    """LlamaIndex's nodes, some with equal texts; their metadata is not for embedding."""
    return [
        NodeWithScore(
            node=TextNode(
                id_=one["id"],
                text=one["text"],
                metadata={"lang": one["lang"]},
                excluded_embed_metadata_keys=["lang"],
            ),
            score=0.5,
        )
        for one in [*documents[:12], documents[50], documents[100]]
    ]


def bundle(query):
    return QueryBundle(query) if isinstance(query, str) else Conversation(query)


def check_ranking(found, given, expected):
    assert [one.node_id for one in found] == [given[hit["corpus_id"]].node_id for hit in expected]
    np.testing.assert_allclose([one.score for one in found], [hit["score"] for hit in expected], atol=1e-4)
    by_id = {one.node_id: one.node for one in given}
    assert all(one.node == by_id[one.node_id] for one in found)


def check_hits(found, answer):
    assert [(one.node_id, one.text, one.score, one.metadata) for one in found] == [
        (hit.id, hit.text, hit.score, {**hit.metadata, "certified": answer.certified}) for hit in answer
    ]


@pytest.mark.parametrize("top_n", [1, 3, 100, None])
def test_the_reranker_ranks_as_the_model_does(model, given, query, top_n):
    before = copy.deepcopy(given)
    found = PolyencodersRerank(model, top_n=top_n).postprocess_nodes(given, bundle(query))
    check_ranking(found, given, model.rank(query, [one.text for one in given], top_k=top_n))
    assert given == before


def test_it_reads_what_is_embedded_of_a_node(poly, given):
    for one in given:
        one.node.excluded_embed_metadata_keys = []
    found = PolyencodersRerank(poly, top_n=None).postprocess_nodes(given, query_str="tea")
    texts = [one.node.get_content(MetadataMode.EMBED) for one in given]
    assert texts[0].startswith("lang: ")
    check_ranking(found, given, poly.rank("tea", texts))


def test_it_keeps_two_and_of_nothing_nothing(poly, given):
    assert len(PolyencodersRerank(poly).postprocess_nodes(given, query_str="tea")) == 2
    assert PolyencodersRerank(poly).postprocess_nodes([], query_str="tea") == []


def test_asynchronously_many_at_a_time(index, poly, given, queries):
    rerank = PolyencodersRerank(poly, top_n=5)
    retriever = PolyencodersRetriever(index, k=5)

    async def all_of_them():
        ranked = asyncio.gather(*(rerank.apostprocess_nodes(given, query_str=query) for query in queries * 4))
        return await ranked, await asyncio.gather(*(retriever.aretrieve(query) for query in queries * 4))

    texts = [one.text for one in given]
    for query, ranked, found in zip(queries * 4, *asyncio.run(all_of_them()), strict=True):
        check_ranking(ranked, given, poly.rank(query, texts, top_k=5))
        check_hits(found, index.search(query, 5))


@pytest.mark.parametrize("where", [None, "lang = 'de'"])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_retriever_finds_what_the_index_does(index, query, where, mode):
    found = PolyencodersRetriever(index, k=6, where=where, mode=mode).retrieve(bundle(query))
    check_hits(found, index.search([query], 6, where, mode)[0])


def test_nodes_show_an_llm_their_metadata_and_a_reranker_their_text(index):
    (found,) = PolyencodersRetriever(index.path, k=1).retrieve("tea")
    assert found.node.get_content(MetadataMode.EMBED) == found.text
    shown = found.node.get_content(MetadataMode.LLM)
    assert f"year: {found.metadata['year']}" in shown
    assert "certified" not in shown


def test_messages_are_turns(turns):
    messages = [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content=turns[0]),
        ChatMessage(role="assistant", content=turns[1]),
        ChatMessage(role="user", content=turns[2]),
    ]
    assert Conversation(messages).turns == Conversation(turns).turns == turns
    assert Conversation(messages).query_str == "\n".join(turns)


@pytest.fixture
def engine(index, poly, monkeypatch):
    """A query engine that answers with nodes."""
    monkeypatch.setattr(Settings, "_llm", MockLLM())  # what `Settings.llm = None` does, for this test alone
    return RetrieverQueryEngine(
        PolyencodersRetriever(index, k=20, mode="fast"),
        response_synthesizer=get_response_synthesizer(response_mode="no_text"),
        node_postprocessors=[PolyencodersRerank(poly, top_n=4)],
    )


def check_engine(response, query, index, poly):
    first = index.search([query], 20, mode="fast")[0]
    best = poly.rank(query, [hit.text for hit in first], top_k=4)
    assert [one.node_id for one in response.source_nodes] == [first[hit["corpus_id"]].id for hit in best]
    np.testing.assert_allclose([one.score for one in response.source_nodes], [hit["score"] for hit in best], atol=1e-4)


def test_a_query_engine(engine, index, poly, query):
    check_engine(engine.query(bundle(query)), query, index, poly)
    check_engine(asyncio.run(engine.aquery(bundle(query))), query, index, poly)


def test_a_query_engine_used_by_several_threads(engine, index, poly, queries):
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(engine.query, queries * 4))
    for query, response in zip(queries * 4, responses, strict=True):
        check_engine(response, query, index, poly)


def test_an_llm_is_given_what_was_found(index, queries):
    """A mock that says its prompt back."""
    engine = RetrieverQueryEngine.from_args(PolyencodersRetriever(index, k=2), llm=MockLLM())
    answer = str(engine.query(queries[0]))
    for hit in index.search(queries[0], 2):
        assert hit.text in answer


def test_rerankings_are_events(poly, given):
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler

    seen = []

    class Handler(BaseEventHandler):
        def handle(self, event, **more):
            seen.append(event)

    root = get_dispatcher()
    root.add_event_handler(Handler())
    try:
        found = PolyencodersRerank(poly, top_n=2).postprocess_nodes(given, query_str="tea")
    finally:
        root.event_handlers.pop()
    started, ended = (
        next(one for one in seen if one.class_name() == f"ReRank{when}Event") for when in ("Start", "End")
    )
    assert (started.top_n, started.model_name, len(started.nodes)) == (2, "PolyEncoder", len(given))
    assert [one.node_id for one in ended.nodes] == [one.node_id for one in found]


def test_bad_input_is_refused(index, poly, given, tmp_path):
    with pytest.raises(ValueError, match="there is no query"):
        PolyencodersRerank(poly).postprocess_nodes(given)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        PolyencodersRerank(poly, top_n=0)
    with pytest.raises(ModelError, match="no such model directory"):
        PolyencodersRerank(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="at least one turn"):
        PolyencodersRetriever(index).retrieve(Conversation([]))
    with pytest.raises(IndexingError, match="colour"):
        PolyencodersRetriever(index, where="colour = 'red'").retrieve("tea")
    with pytest.raises(ValueError, match="mode must be"):
        PolyencodersRetriever(index, mode="quick").retrieve("tea")
