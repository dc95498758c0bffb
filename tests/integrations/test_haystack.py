"""Haystack's pipelines over our models and index: run, saved, loaded, and run again."""

import asyncio
import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyencoders.errors import DataError, IndexingError, ModelError

pytest.importorskip("haystack", reason="needs polyencoders[haystack]")

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.joiners import DocumentJoiner
from haystack.dataclasses import ChatMessage

from polyencoders.integrations.haystack import PolyencodersRanker, PolyencodersRetriever

OURS = ["polyencoders.*"]


@pytest.fixture
def given(documents):
    """Haystack's documents, some with equal texts."""
    return [
        Document(id=one["id"], content=one["text"], meta={"lang": one["lang"]}, score=0.5, embedding=[1.0])
        for one in [*documents[:12], documents[50], documents[100]]
    ]


def check_ranking(found, given, expected):
    """They are the given documents, in the expected order, with nothing changed but their scores."""
    by_id = {one.id: one for one in given}
    assert [document.id for document in found] == [given[hit["corpus_id"]].id for hit in expected]
    np.testing.assert_allclose([one.score for one in found], [hit["score"] for hit in expected], atol=1e-4)
    for document in found:
        assert {**document.to_dict(), "score": 0.5} == by_id[document.id].to_dict()


def check_hits(found, answer):
    assert [(one.id, one.content, one.score, one.meta) for one in found] == [
        (hit.id, hit.text, hit.score, {**hit.metadata, "certified": answer.certified}) for hit in answer
    ]


@pytest.mark.parametrize("top_k", [1, 3, 100, None])
def test_the_ranker_ranks_as_the_model_does(model, given, query, top_k):
    before = copy.deepcopy(given)
    expected = model.rank(query, [one.content for one in given], top_k=top_k)
    check_ranking(PolyencodersRanker(model, top_k=top_k).run(query, given)["documents"], given, expected)
    if top_k is not None:
        check_ranking(PolyencodersRanker(model).run(query, given, top_k=top_k)["documents"], given, expected)
    assert given == before


def test_it_keeps_ten_and_of_nothing_nothing(poly, given):
    assert len(PolyencodersRanker(poly).run("tea", given)["documents"]) == 10
    assert PolyencodersRanker(poly).run("tea", [])["documents"] == []


def test_messages_are_turns(poly, index, given, turns):
    messages = [
        ChatMessage.from_system("Be brief."),
        ChatMessage.from_user(turns[0]),
        ChatMessage.from_assistant(turns[1]),
        ChatMessage.from_user(turns[2]),
    ]
    expected = poly.rank(turns, [one.content for one in given])
    check_ranking(PolyencodersRanker(poly, top_k=None).run(messages, given)["documents"], given, expected)
    found = PolyencodersRetriever(index, top_k=4).run(messages)["documents"]
    check_hits(found, index.search([turns], 4)[0])


@pytest.mark.parametrize("where", [None, "lang = 'de'"])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_retriever_finds_what_the_index_does(index, query, where, mode):
    answer = index.search([query], 6, where, mode)[0]
    own = PolyencodersRetriever(index, top_k=6, where=where, mode=mode)
    check_hits(own.run(query)["documents"], answer)
    check_hits(PolyencodersRetriever(index).run(query, top_k=6, where=where, mode=mode)["documents"], answer)


@pytest.fixture
def pipeline(index, models, tmp_path):
    """What an index finds, ranked by another model, with document vectors kept in a file."""
    made = Pipeline()
    made.add_component("retriever", PolyencodersRetriever(str(index.path), top_k=20, where="year < 2020", mode="fast"))
    made.add_component("ranker", PolyencodersRanker(models / "BiEncoder", top_k=4, cache=tmp_path / "vectors"))
    made.connect("retriever.documents", "ranker.documents")
    return made


@pytest.fixture
def check(pipeline, index, models):
    """What a pipeline finds is what index and model find by themselves."""
    from polyencoders import BiEncoder

    bi = BiEncoder(str(models / "BiEncoder"))

    def check_it(query, answer):
        first = index.search([query], 20, "year < 2020", "fast")[0]
        best = bi.rank(query, [hit.text for hit in first], top_k=4)
        found = answer["ranker"]["documents"]
        assert [one.id for one in found] == [first[hit["corpus_id"]].id for hit in best]
        np.testing.assert_allclose([one.score for one in found], [hit["score"] for hit in best], atol=1e-4)

    return check_it


def asked(query):
    return {"retriever": {"query": query}, "ranker": {"query": query}}


def test_a_pipeline_that_is_saved_and_loaded_finds_the_same(pipeline, check, queries, turns, tmp_path):
    text = pipeline.dumps()
    loaded = Pipeline.loads(text, allowed_modules=OURS)
    assert loaded.dumps() == text
    assert loaded.to_dict() == pipeline.to_dict()
    for query in (*queries, turns):
        check(query, pipeline.run(asked(query)))
        check(query, loaded.run(asked(query)))
        check(query, asyncio.run(loaded.run_async(asked(query))))
    assert (tmp_path / "vectors").exists()


def test_a_pipeline_used_by_several_threads(pipeline, check, queries):
    with ThreadPoolExecutor(4) as pool:  # cold: the first of them load the models
        answers = list(pool.map(lambda query: pipeline.run(asked(query)), queries * 4))
    for query, answer in zip(queries * 4, answers, strict=True):
        check(query, answer)


def test_beside_haystacks_own_components(index, poly, queries):
    """Two retrievers joined, ranked, and put into a prompt."""
    made = Pipeline()
    made.add_component("english", PolyencodersRetriever(index, top_k=3, where="lang = 'en'"))
    made.add_component("german", PolyencodersRetriever(index, top_k=3, where="lang = 'de'"))
    made.add_component("join", DocumentJoiner())
    made.add_component("ranker", PolyencodersRanker(poly, top_k=3))
    template = [ChatMessage.from_user("{% for one in documents %}{{ one.id }} {% endfor %}")]
    made.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
    made.connect("english", "join")
    made.connect("german", "join")
    made.connect("join", "ranker.documents")
    made.connect("ranker", "prompt.documents")
    for query in queries:
        answer = made.run({name: {"query": query} for name in ("english", "german", "ranker")})
        six = [*index.search(query, 3, "lang = 'en'"), *index.search(query, 3, "lang = 'de'")]
        best = sorted(six, key=lambda hit: -hit.score)[:3]
        told = answer["prompt"]["prompt"][0].text.split()
        scores = {hit.id: hit.score for hit in six}
        np.testing.assert_allclose([scores[id] for id in told], [hit.score for hit in best], atol=1e-4)


def test_a_query_from_another_component_arrives(index):
    """Connections are checked by type: a text, texts and messages all go in."""
    from haystack import component

    for kind, value in (
        (str, "tea"),
        (list[str], ["Hello!", "tea"]),
        (list[ChatMessage], [ChatMessage.from_user("tea")]),
    ):

        @component
        class Asker:
            @component.output_types(query=kind)
            def run(self, ask: bool):
                return {"query": value}  # noqa: B023 - it runs before the next one is made

        made = Pipeline()
        made.add_component("asker", Asker())
        made.add_component("retriever", PolyencodersRetriever(index, top_k=2))
        made.connect("asker.query", "retriever.query")
        turns = value if isinstance(value, str) else [getattr(turn, "text", turn) for turn in value]
        check_hits(made.run({"asker": {"ask": True}})["retriever"]["documents"], index.search([turns], 2)[0])


def test_only_what_has_a_place_is_saved(index, poly, models):
    with pytest.raises(ModelError, match="model was given as an object, a PolyEncoder: give its path"):
        PolyencodersRanker(poly).to_dict()
    with pytest.raises(ModelError, match="index was given as an object, a Index: give its path"):
        PolyencodersRetriever(index).to_dict()
    with pytest.raises(ModelError, match="model was given as an object"):
        PolyencodersRetriever(index.path, model=poly).to_dict()
    saved = PolyencodersRetriever(index.path, 3, "year > 2000", "fast", models / "PolyEncoder").to_dict()
    again = PolyencodersRetriever.from_dict(saved)
    assert again.to_dict() == saved
    check_hits(again.run("tea")["documents"], index.search("tea", 3, "year > 2000", "fast"))


def test_bad_input_is_refused(index, poly, given, tmp_path):
    with pytest.raises(DataError, match=r"document picture has no content"):
        PolyencodersRanker(poly).run("tea", [*given, Document(id="picture")])
    with pytest.raises(ValueError, match="top_k"):
        PolyencodersRanker(poly).run("tea", given, top_k=0)
    with pytest.raises(ModelError, match="no such model directory"):
        PolyencodersRanker(str(tmp_path / "nothing")).warm_up()
    with pytest.raises(IndexingError, match="no such index"):
        PolyencodersRetriever(tmp_path / "nothing").warm_up()
    with pytest.raises(IndexingError, match="colour"):
        PolyencodersRetriever(index).run("tea", where="colour = 'red'")
    with pytest.raises(ValueError, match="mode must be"):
        PolyencodersRetriever(index).run("tea", mode="quick")
