"""`predict`, `rank` and `score_lists`: the same questions of every model, in all the forms they may be asked."""

import numpy as np
import pytest
import torch

import polyencoders
from polyencoders.errors import ModelError
from polyencoders.models import ArcII, BiEncoder, CrossEncoder, PolyEncoder, WarmCrossEncoder, load_model

CONVERSATION = ["Any plans for the weekend?", "Hiking, if it stays dry."]
DOCUMENTS = ["Which trail?", "I like tea.", "Take a jacket."]


def test_a_single_pair_gives_a_single_score(model):
    score = model.predict(("a query", "a document"))
    assert np.ndim(score) == 0
    [listed] = model.predict([("a query", "a document")])
    assert score == pytest.approx(listed, abs=1e-6)
    assert model.predict(["a query", "a document"]) == pytest.approx(listed, abs=1e-6)
    assert model.predict((CONVERSATION, "a document")) == pytest.approx(
        model.predict([(CONVERSATION, "a document")])[0], abs=1e-6
    )


def test_pairs_give_an_array_of_scores(model):
    pairs = [(CONVERSATION, text) for text in DOCUMENTS] + [["a query", DOCUMENTS[0]]]
    scores = model.predict(pairs)
    assert isinstance(scores, np.ndarray)
    assert scores.dtype == np.float32
    assert scores.shape == (4,)
    tensor = model.predict(pairs, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor, scores, atol=1e-6)
    listed = model.predict(pairs, convert_to_numpy=False)
    assert isinstance(listed, list)
    np.testing.assert_allclose(listed, scores, atol=1e-6)


def test_two_pairs_are_not_taken_for_one(model):
    assert model.predict([("a", "b"), ("c", "d")]).shape == (2,)


def test_pairs_may_be_a_numpy_array(model):
    pairs = np.array([["a query", "a document"], ["another", "document"]])
    np.testing.assert_allclose(model.predict(pairs), model.predict(pairs.tolist()), atol=1e-6)


def test_no_pairs_give_no_scores(model):
    assert len(model.predict([])) == 0
    assert len(model.predict([], convert_to_tensor=True)) == 0
    assert model.predict([], convert_to_numpy=False) == []


def test_ranking_is_by_score_best_first(model):
    hits = model.rank(CONVERSATION, DOCUMENTS)
    assert sorted(hit["corpus_id"] for hit in hits) == [0, 1, 2]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert all(set(hit) == {"corpus_id", "score"} and isinstance(hit["score"], float) for hit in hits)
    scores = model.predict([(CONVERSATION, text) for text in DOCUMENTS])
    np.testing.assert_allclose([hit["score"] for hit in hits], scores[[hit["corpus_id"] for hit in hits]], atol=1e-5)


def test_ranking_gives_as_many_hits_as_asked_for_with_their_texts(model):
    every = model.rank("a query", DOCUMENTS, return_documents=True)
    assert all(hit["text"] == DOCUMENTS[hit["corpus_id"]] for hit in every)
    [best] = model.rank("a query", DOCUMENTS, top_k=1, return_documents=True)
    assert best["corpus_id"] == every[0]["corpus_id"]
    assert len(model.rank("a query", DOCUMENTS, top_k=99)) == 3
    assert model.rank("a query", [], top_k=1) == []


def test_ranking_adds_what_words_add(model):
    plain = {hit["corpus_id"]: hit["score"] for hit in model.rank("a jacket", DOCUMENTS)}
    hits = model.rank("a jacket", DOCUMENTS, words=100.0)
    gained = [hit["score"] - plain[hit["corpus_id"]] for hit in hits]
    assert hits[0]["corpus_id"] == 2
    assert 20 < gained[0] < 100
    assert gained[1:] == pytest.approx([0, 0], abs=1e-5)


def test_equal_scores_keep_the_order_given(model):
    hits = model.rank("a query", ["the same"] * 5)
    assert [hit["corpus_id"] for hit in hits] == [0, 1, 2, 3, 4]


def test_each_query_is_scored_with_its_own_list(model):
    scores = model.score_lists(["a query", CONVERSATION, "another"], [DOCUMENTS, [], [DOCUMENTS[1], DOCUMENTS[1]]])
    assert [len(part) for part in scores] == [3, 0, 2]
    assert all(part.dtype == np.float32 for part in scores)
    np.testing.assert_allclose(scores[0], model.predict([("a query", text) for text in DOCUMENTS]), atol=1e-5)
    np.testing.assert_allclose(scores[2], [model.predict(("another", DOCUMENTS[1]))] * 2, atol=1e-5)


def test_no_lists_give_no_scores(model):
    assert model.score_lists([], []) == []
    [none, nothing] = model.score_lists(["a", "b"], [[], []])
    assert none.shape == nothing.shape == (0,)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([1, 2], "a pair is a query and a document, got int 1"),
        ([("a", "b"), ("a", "b", "c")], r"a pair is a query and a document, got tuple \('a', 'b', 'c'\)"),
        (["a", "b", "c"], "a pair is a query and a document, got str 'a'"),
        ([(1, "a document")], "a query is a text or a list of turns .* got int 1"),
        ([("a query", 2)], "a document is a text, got int 2"),
        ([("a query", ["a", "b"])], "a document is a text, got list"),
        ([{"query": "a", "document": "b"}], "a pair is a query and a document, got dict"),
    ],
)
def test_what_is_no_pair_is_named(model, pairs, message):
    with pytest.raises(TypeError, match=message):
        model.predict(pairs)


@pytest.mark.parametrize("documents", ["a text", 5, None, {"text": "a"}])
def test_documents_to_rank_are_a_list(model, documents):
    with pytest.raises(TypeError, match="documents are a list of texts, got"):
        model.rank("a query", documents)
    with pytest.raises(TypeError, match="documents are a list of texts, got"):
        model.score_lists(["a query"], [documents])


def test_documents_to_rank_are_texts(model):
    with pytest.raises(TypeError, match="a document is a text, got int 3"):
        model.rank("a query", ["a", 3])


def test_a_query_to_rank_for_is_one(model):
    with pytest.raises(TypeError, match=r"a query is a text or a list of turns .* got int 5"):
        model.rank(5, DOCUMENTS)


@pytest.mark.parametrize("top_k", [0, -1, 2.5])
def test_top_k_is_at_least_1(model, top_k):
    with pytest.raises(ValueError, match=f"top_k must be a whole number of at least 1, got {top_k}"):
        model.rank("a query", DOCUMENTS, top_k=top_k)


def test_there_are_as_many_lists_as_queries(model):
    with pytest.raises(ValueError, match="2 queries need as many lists of documents, got 1"):
        model.score_lists(["a", "b"], [DOCUMENTS])
    with pytest.raises(TypeError, match="expected a list of queries, got str 'ab'"):
        model.score_lists("ab", [DOCUMENTS, DOCUMENTS])
    with pytest.raises(TypeError, match="expected a list of documents for each query, got str 'ab'"):
        model.score_lists(["a", "b"], "ab")


def test_vectors_have_the_shapes_the_architecture_says(built):
    queries = ["a query", CONVERSATION]
    for name, m in (("poly-learnt", 3), ("poly-last-and-first", 4)):
        model = built(name)
        assert model.encode_query(queries).shape == (2, m, 16)
        assert model.encode_query("a query").shape == (m, 16)
        assert model.encode_document(DOCUMENTS).shape == (3, 16)
        assert model.encode_document("a document").shape == (16,)
        codes, documents = model.encode_query(queries), model.encode_document(DOCUMENTS)
        assert model.similarity(codes, documents).shape == (2, 3)
        assert model.similarity(codes[0], documents[0]).shape == (1, 1)
        assert model.similarity(list(codes), list(documents)).shape == (2, 3)
        assert model.similarity_pairwise(codes, documents[:2]).shape == (2,)
    model = built("bi-attention")
    assert model.encode_query(queries).shape == (2, 16)
    assert model.similarity(model.encode_query(queries), model.encode_document(DOCUMENTS)).shape == (2, 3)


def test_each_distinct_text_is_encoded_once(build, monkeypatch):
    model = build("poly-learnt")
    seen = []
    tokenized = model.tokenized
    monkeypatch.setattr(
        model, "tokenized", lambda texts, *rest, **more: seen.extend(texts) or tokenized(texts, *rest, **more)
    )
    model.predict([(CONVERSATION, text) for text in DOCUMENTS * 3])
    assert len(seen) == 1 + 3


def test_a_name_that_neither_the_disk_nor_the_hub_has_is_said(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="nobody/nothing: no such model directory, and the model hub does not give it"):
        polyencoders.load("nobody/nothing")


def test_a_directory_that_is_no_model_of_ours_is_named(tmp_path, built):
    with pytest.raises(ModelError, match="nowhere: no such model directory"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="is a directory without a model"):
        load_model(tmp_path)
    built("bi").save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "config_sentence_transformers.json"
    config.write_text(config.read_text().replace('"BiEncoder"', '"TriEncoder"'))
    with pytest.raises(ModelError, match="holds a 'TriEncoder', which this version does not know; it knows BiEncoder"):
        load_model(tmp_path / "model")


def test_a_saved_model_is_loaded_by_what_it_says_it_is(tmp_path, built, backbone):
    for name, architecture in (
        ("bi", BiEncoder),
        ("poly-first", PolyEncoder),
        ("cross", CrossEncoder),
        ("cross-warm", WarmCrossEncoder),
        ("arc-ii", ArcII),
    ):
        built(name).save_pretrained(tmp_path / name)
        assert type(load_model(tmp_path / name)) is architecture
    assert type(load_model(backbone)) is BiEncoder


def test_a_directory_with_a_head_of_an_older_version_loads_as_its_base(build, tmp_path):
    model = build("poly-learnt")
    model.save_pretrained(tmp_path / "listed")
    (tmp_path / "listed" / "listwise.json").write_text('{"depth": 100}')
    (tmp_path / "listed" / "listwise.safetensors").write_bytes(b"weights")
    loaded = load_model(tmp_path / "listed")
    assert type(loaded) is PolyEncoder
    assert loaded.predict([("a", "b")]) == model.predict([("a", "b")])
