"""LangChain's own retrievers and chains, over our models and index."""

import asyncio
import copy

import numpy as np
import pytest

from polyencoders.errors import IndexingError, ModelError

pytest.importorskip("langchain_core", reason="needs polyencoders[langchain]")

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from polyencoders.integrations.langchain import PolyencodersReranker, PolyencodersRetriever


@pytest.fixture
def given(documents):
    """LangChain's documents, some with equal texts."""
    return [
        Document(id=one["id"], page_content=one["text"], metadata={"lang": one["lang"], "deep": {"year": one["year"]}})
        for one in [*documents[:12], documents[50], documents[100]]
    ]


def places(found, given):
    return [[one.id for one in given].index(document.id) for document in found]


def check_ranking(found, given, expected):
    """They are the given documents, in the expected order, with their scores beside all else that they had."""
    assert places(found, given) == [hit["corpus_id"] for hit in expected]
    scores = [document.metadata["relevance_score"] for document in found]
    np.testing.assert_allclose(scores, [hit["score"] for hit in expected], atol=1e-4)
    for document, hit in zip(found, expected, strict=True):
        original = given[hit["corpus_id"]]
        assert document.page_content == original.page_content
        assert {**document.metadata, "relevance_score": None} == {**original.metadata, "relevance_score": None}


def check_hits(found, answer):
    assert [(one.id, one.page_content, one.metadata) for one in found] == [
        (hit.id, hit.text, {**hit.metadata, "relevance_score": hit.score, "certified": answer.certified})
        for hit in answer
    ]


@pytest.mark.parametrize("top_n", [1, 3, 100, None])
def test_the_reranker_ranks_as_the_model_does(model, given, query, top_n):
    before = copy.deepcopy(given)
    found = PolyencodersReranker(model, top_n=top_n).compress_documents(given, query)
    check_ranking(found, given, model.rank(query, [one.page_content for one in given], top_k=top_n))
    assert given == before
    found[0].metadata["deep"]["year"] = "changed"
    assert given == before, "what is done to a result is not done to what was given"


def test_it_keeps_three_and_of_nothing_nothing(poly, given):
    assert len(PolyencodersReranker(poly).compress_documents(given, "tea")) == 3
    assert PolyencodersReranker(poly).compress_documents([], "tea") == []


def test_asynchronously_many_at_a_time(poly, given, queries):
    reranker = PolyencodersReranker(poly, top_n=5)

    async def all_of_them():
        return await asyncio.gather(*(reranker.acompress_documents(given, query) for query in queries * 4))

    texts = [one.page_content for one in given]
    for query, found in zip(queries * 4, asyncio.run(all_of_them()), strict=True):
        check_ranking(found, given, poly.rank(query, texts, top_k=5))


def test_messages_are_turns(poly, given, turns):
    messages = [
        SystemMessage("Be brief."),
        HumanMessage(turns[0]),
        AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}]),
        ToolMessage("nothing", tool_call_id="1"),
        AIMessage(turns[1]),
        HumanMessage([{"type": "text", "text": turns[2]}]),
    ]
    found = PolyencodersReranker(poly, top_n=4).compress_documents(given, messages)
    check_ranking(found, given, poly.rank(turns, [one.page_content for one in given], top_k=4))
    with pytest.raises(ValueError, match="at least one turn"):
        PolyencodersReranker(poly).compress_documents(given, [SystemMessage("Be brief.")])


@pytest.mark.parametrize("where", [None, "lang = 'de'"])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_retriever_finds_what_the_index_does(index, query, where, mode):
    answer = index.search([query], 6, where, mode)[0]
    check_hits(PolyencodersRetriever(index, k=6, where=where, mode=mode).invoke(query), answer)
    general = PolyencodersRetriever(index)
    check_hits(general.invoke(query, k=6, where=where, mode=mode), answer)
    check_hits(asyncio.run(general.ainvoke(query, k=6, where=where, mode=mode)), answer)


def test_it_finds_for_messages(index, turns):
    messages = [HumanMessage(turns[0]), AIMessage(turns[1]), HumanMessage(turns[2])]
    check_hits(PolyencodersRetriever(index, k=4).invoke(messages), index.search([turns], 4)[0])


def test_it_opens_a_folder(index, models):
    for retriever in (PolyencodersRetriever(index.path, k=2), PolyencodersRetriever(str(index.path), k=2)):
        check_hits(retriever.invoke("tea"), index.search("tea", 2))
    check_hits(
        PolyencodersRetriever(index.path, k=2, model=models / "PolyEncoder").invoke("tea"), index.search("tea", 2)
    )


def test_langchains_retriever_that_reranks(index, poly, queries):
    classic = pytest.importorskip("langchain_classic.retrievers")
    chain = classic.ContextualCompressionRetriever(
        base_compressor=PolyencodersReranker(poly, top_n=4),
        base_retriever=PolyencodersRetriever(index, k=20, mode="fast"),
    )
    for query in queries:
        first = index.search(query, 20, mode="fast")
        best = poly.rank(query, [hit.text for hit in first], top_k=4)
        for found in (chain.invoke(query), asyncio.run(chain.ainvoke(query))):
            assert [one.id for one in found] == [first[hit["corpus_id"]].id for hit in best]
            assert all(one.metadata["certified"] == first.certified for one in found)
            scores = [one.metadata["relevance_score"] for one in found]
            np.testing.assert_allclose(scores, [hit["score"] for hit in best], atol=1e-4)
    assert chain.invoke("tea", where="lang = 'fr'") == []


def test_a_chain_in_a_batch_of_threads(index, poly, queries):
    reranker = PolyencodersReranker(poly, top_n=2)
    chain = (
        {"found": PolyencodersRetriever(index, k=9), "query": RunnablePassthrough()}
        | RunnableLambda(lambda given: reranker.compress_documents(given["found"], given["query"]))
        | RunnableLambda(lambda found: [one.page_content for one in found])
    )
    answers = chain.batch(queries * 3, config={"max_concurrency": 4})
    for query, answer in zip(queries * 3, answers, strict=True):
        texts = [hit.text for hit in index.search(query, 9)]
        assert answer == [texts[hit["corpus_id"]] for hit in poly.rank(query, texts, top_k=2)]


def test_bad_input_is_refused(index, poly, models, tmp_path):
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        PolyencodersReranker(poly, top_n=0)
    with pytest.raises(ModelError, match="no such model directory"):
        PolyencodersReranker(str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match="leave cache out"):
        PolyencodersReranker(models / "CrossEncoder", cache=tmp_path / "vectors")
    with pytest.raises(ValueError, match="'exact' or 'fast'"):
        PolyencodersRetriever(index, mode="quick")
    with pytest.raises(ValueError, match="k, how many documents"):
        PolyencodersRetriever(index).invoke("tea", k=0)
    with pytest.raises(IndexingError, match="colour"):
        PolyencodersRetriever(index, where="colour = 'red'").invoke("tea")
    with pytest.raises(TypeError, match="a query is"):
        PolyencodersRetriever(index).invoke({"question": "tea"})
