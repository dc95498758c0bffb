"""Vectors of documents and queries, in the shapes that clients read, against the model asked directly."""

import base64

import numpy as np
import pytest

from polyencoders import BiEncoder
from polyencoders.export import export_model

TEXTS = ["Tea in the garden.", "A letter from the doctor.", "Rain."]
PATHS = ("/v1/embeddings", "/embeddings", "/v1/embed", "/v2/embed", "/embed")


def test_the_real_client(reranking, poly):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{reranking.url}/v1", api_key="none", max_retries=0)
    expected = poly.encode_document(TEXTS)
    answer = client.embeddings.create(model="any", input=TEXTS)  # base64, unless told otherwise
    np.testing.assert_allclose([one.embedding for one in answer.data], expected, atol=1e-2)
    assert answer.usage.prompt_tokens == sum(len(poly.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert answer.model == "poly"
    single = client.embeddings.create(model="any", input=TEXTS[0], encoding_format="float")
    np.testing.assert_allclose(single.data[0].embedding, answer.data[0].embedding, atol=1e-6)
    (model,) = client.models.list()
    assert (model.id, client.models.retrieve("poly").created) == ("poly", model.created)
    with pytest.raises(openai.NotFoundError, match="the model that is served is 'poly'"):
        client.models.retrieve("other")
    with pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length=False"):
        client.embeddings.create(model="any", input=[[1, 2, 3]])


@pytest.mark.parametrize("path", PATHS)
def test_what_is_sent_decides_what_is_answered(one_vector, path):
    server, model = one_vector
    expected = model.encode_document(TEXTS)

    def post(body):
        answer = server.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def check(found):
        np.testing.assert_allclose(found, expected, atol=1e-5)

    check([one["embedding"] for one in post({"input": TEXTS, "model": "m"})["data"]])
    check([one["embedding"] for one in post({"input": [{"text": text} for text in TEXTS]})["data"]])
    check(post({"inputs": TEXTS}))
    check(post({"texts": TEXTS, "input_type": "search_document", "embedding_types": ["float"]})["embeddings"]["float"])
    content = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    by_type = post({"inputs": content, "input_type": "search_document", "embedding_types": ["float", "base64"]})
    check(by_type["embeddings"]["float"])
    check([np.frombuffer(base64.b64decode(one), "<f4") for one in by_type["embeddings"]["base64"]])
    everything = ("encoding_format", "dimensions", "input_type", "user", "normalize", "truncate", "prompt_name")
    assert len(post({"input": TEXTS, **dict.fromkeys(everything)})["data"]) == 3, "null is nothing"


def test_queries_that_are_one_vector(one_vector):
    server, model = one_vector
    queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)

    def vectors(**body):
        answer = server.client.post("/v1/embeddings", json={"input": TEXTS, **body}).json()
        return [one["embedding"] for one in answer["data"]]

    for asked in (
        {"input_type": "query"},
        {"input_type": "search_query"},
        {"task": "retrieval.query"},
        {"model": "bi:query"},
    ):
        np.testing.assert_allclose(vectors(**asked), queries, atol=1e-5)
    for asked in ({}, {"input_type": "passage"}, {"model": "bi:document"}, {"model": "bi"}):
        np.testing.assert_allclose(vectors(**asked), documents, atol=1e-5)
    weaviate = server.client.post("/vectors", json={"text": TEXTS[0], "config": {"task_type": "query"}}).json()
    np.testing.assert_allclose(weaviate["vector"], queries[0], atol=1e-5)
    assert server.client.get("/info").json()["model_type"].keys() == {"embedding", "reranker"}
    unknown = server.client.post("/v1/embeddings", json={"input": "a", "input_type": "image"})
    assert "'image' is no side of a search" in unknown.json()["error"]["message"]
    matching = server.client.post("/v1/embeddings", json={"input": TEXTS, "task": "text-matching"})
    np.testing.assert_allclose([one["embedding"] for one in matching.json()["data"]], documents, atol=1e-5)
    assert matching.headers["x-notes"] == "input_type: text-matching is no side of a search, so they are documents"


def test_queries_that_are_several_vectors_are_refused_or_given_whole(reranking, poly):
    answer = reranking.client.post("/v1/embeddings", json={"input": "a", "model": "poly:query"})
    assert answer.status_code == 422
    assert "a query of poly is 3 vectors" in answer.json()["error"]["message"]
    codes = reranking.client.post("/embed_all", json={"inputs": TEXTS, "input_type": "query"}).json()
    np.testing.assert_allclose(codes, poly.encode_queries(TEXTS), atol=1e-5)


def test_what_would_be_another_vector_is_refused(one_vector):
    post = one_vector[0].client.post
    assert post("/v1/embeddings", json={"input": "a", "dimensions": 16}).status_code == 200
    for asked, says in (
        ({"dimensions": 8}, "the vectors of bi have 16"),
        ({"output_dimension": 8}, "the vectors of bi have 16"),
        ({"encoding_format": "int8"}, "'int8' is not made here"),
        ({"output_dtype": "binary"}, "output_dtype: 'binary' is not made here"),
        ({"output_dtype": "int8", "encoding_format": "base64"}, "all vectors are float32: ask for 'float'"),
        ({"input": []}, "input"),
        ({"input": [1, 2]}, "token ids"),
        ({"truncate": False, "input": "tea " * 500}, "input.0: 502 tokens, the most is 128"),
    ):
        answer = post("/v1/embeddings", json={"input": "a", **asked})
        assert answer.status_code in (413, 422)
        assert says in answer.json()["error"]["message"]


def test_a_blank_text_has_a_vector_that_nothing_finds(reranking, poly):
    answer = reranking.client.post("/v1/embeddings", json={"input": ["tea", "", " "]})
    found = [one["embedding"] for one in answer.json()["data"]]
    np.testing.assert_allclose(found[0], poly.encode_document(["tea"])[0], atol=1e-5)
    assert not np.any(found[1:])
    assert answer.headers["x-notes"] == "input.1, input.2: blank, a vector of zeros"


def test_lengths_are_one_where_it_is_asked_for(serve, models):
    server = serve(model=str(models / "raw"), bf16=False)
    plain, unit = (
        server.client.post("/embed", json={"inputs": TEXTS, **how}).json() for how in ({}, {"normalize": True})
    )
    lengths = np.linalg.norm(plain, axis=1)
    assert abs(lengths - 1).max() > 0.1
    np.testing.assert_allclose(np.array(plain) / lengths[:, None], unit, atol=1e-5)


def test_a_cross_encoder_has_none(serve, models):
    server = serve(model=str(models / "cross"))
    answer = server.client.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 404
    assert "no document vectors" in answer.json()["error"]["message"]


def test_scores_of_pairs(reranking, poly):
    expected = poly.score_lists(["tea?"], [TEXTS])[0]
    post = reranking.client.post
    asked = {"source_sentence": "tea?", "sentences": TEXTS}
    np.testing.assert_allclose(post("/similarity", json={"inputs": asked}).json(), expected, atol=1e-5)
    np.testing.assert_allclose(post("/", json={"inputs": asked}).json(), expected, atol=1e-5)
    for path in ("/score", "/v1/score"):
        for first in ("tea?", ["tea?"], ["tea?"] * 3):
            found = post(path, json={"text_1": first, "text_2": TEXTS, "model": "m"}).json()["data"]
            np.testing.assert_allclose([one["score"] for one in found], (1 + expected) / 2, atol=1e-5)
        assert post(path, json={"text_1": ["a", "b"], "text_2": TEXTS}).status_code == 422
        blank = post(path, json={"text_1": ["tea?"] * 3, "text_2": ["tea", "rain", ""]})
        assert blank.headers["x-notes"] == "text_2.2: blank, so it gets the lowest score"
        assert blank.json()["data"][2]["score"] == 0
    pairs = post("/predict", json={"inputs": [["tea?", text] for text in TEXTS], "raw_scores": True}).json()
    np.testing.assert_allclose([one[0]["score"] for one in pairs], expected, atol=1e-5)
    assert "give pairs" in post("/predict", json={"inputs": ["a"]}).json()["error"]


@pytest.mark.parametrize("word", ["tea", "x" * 20, "\u8336"])
def test_of_a_long_text_only_a_part_is_cut_into_tokens(one_vector, word):
    server, model = one_vector
    text = " ".join(f"{word} {number}" for number in range(4_000)) + " " * 50_000
    places = model.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    for how, kept in (
        ({"truncation_direction": "Left"}, text[places[-126][0] :]),
        ({"truncate": "START", "max_tokens_per_doc": 30}, text[places[-28][0] :]),
        ({"max_tokens_per_doc": 30}, text[: places[27][1]]),
    ):
        (found,) = server.client.post("/embed", json={"inputs": [text], **how}).json()
        np.testing.assert_allclose(found, model.encode_document([kept])[0], atol=1e-5)
    refused = server.client.post("/embed", json={"inputs": [text], "truncate": False})
    assert (refused.status_code, "more than" in refused.json()["detail"]) == (413, True)


def test_answers_that_would_be_far_larger_than_their_request(reranking):
    """A token takes a hundred times the memory of its characters; a query may be many vectors."""
    many = {"texts": ["tea"] * 100, "embedding_types": ["float", "base64"] * 100_000}
    answer = reranking.client.post("/v2/embed", json=many).json()
    assert list(answer["embeddings"]) == ["float", "base64"], "each is made once"
    texts = ["tea " * 40_000] * 2
    answer = reranking.client.post("/tokenize", json={"inputs": texts})
    assert (answer.status_code, "all texts: 320,000 characters" in answer.json()["detail"]) == (413, True)
    answer = reranking.client.post("/embed_all", json={"inputs": ["tea"] * 400, "input_type": "query"})
    assert (answer.status_code, "400 queries of 3 vectors" in answer.json()["detail"]) == (413, True)
    assert reranking.client.post("/embed_all", json={"inputs": ["tea"] * 400}).status_code == 200


def test_tokens_are_the_tokenisers(reranking, poly):
    text = "Tea \U0001f375 in Zürich"
    (found,) = reranking.client.post("/tokenize", json={"inputs": text}).json()
    expected = poly.tokenizer(text, return_offsets_mapping=True)
    assert [one["id"] for one in found] == expected["input_ids"]
    assert [(one["start"], one["stop"]) for one in found] == expected["offset_mapping"]
    assert [one["text"] for one in found if not one["special"]] == [
        text[a:b] for a, b in expected["offset_mapping"][1:-1]
    ]
    assert reranking.client.post("/tokenize", json={"prompt": text}).json()["tokens"] == expected["input_ids"]
    (bare,) = reranking.client.post("/tokenize", json={"inputs": [text], "add_special_tokens": False}).json()
    assert len(bare) == len(found) - 2


def test_an_exported_model_answers_alike(serve, models, tmp_path):
    export_model(BiEncoder(str(models / "bi")), tmp_path / "exported")
    ours, theirs = (serve(model=str(path), bf16=False).client for path in (models / "bi", tmp_path / "exported"))
    for path, body in (
        ("/tokenize", {"inputs": TEXTS}),
        ("/embed", {"inputs": TEXTS, "prompt_name": "query"}),
        ("/embed", {"inputs": ["tea " * 500], "truncation_direction": "Left"}),
    ):
        one, other = (client.post(path, json=body).json() for client in (ours, theirs))
        if path == "/tokenize":
            assert one == other
        else:
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert ours.get("/info").json()["max_input_length"] == theirs.get("/info").json()["max_input_length"] == 128
