"""Reranking in the shapes of Cohere and text-embeddings-inference, against the model asked directly."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from polyencoders.models import load_model

QUERY = "Is there any tea in the kitchen?"
PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/v1/reranks", "/v1/ranking")
TALK = ["Good morning.", "It rains again.", "Shall we take the train?"]


@pytest.fixture(scope="module")
def texts(replies):
    return [reply["text"] for reply in replies]


def check(results, scores, number, key="relevance_score", shown=lambda score: (1 + score) / 2):
    """Results are the best by the model's scores, best first."""
    assert [result["index"] for result in results] == np.argsort(-scores, kind="stable")[:number].tolist()
    np.testing.assert_allclose(
        [one[key] for one in results], [shown(scores[one["index"]]) for one in results], atol=1e-5
    )


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize("query", [QUERY, TALK], ids=["text", "conversation"])
def test_cohere(reranking, poly, texts, path, query):
    scores = poly.score_lists([query], [texts])[0]
    body = {"query": query, "documents": texts, "top_n": 7, "model": "rerank-v3.5", "never_heard_of": 1}
    answer = reranking.client.post(path, json=body).json()
    check(answer["results"], scores, 7)
    assert set(answer["results"][0]) == {"index", "relevance_score"}
    assert answer["id"]
    assert answer["meta"]["api_version"]["version"] == path[2]
    check(answer["data"], scores, 7)
    assert (answer["model"], "scores" in answer) == ("poly", False)
    assert answer["usage"]["total_tokens"] > 100
    with_texts = reranking.client.post(path, json={**body, "return_documents": True}).json()["results"]
    assert [one["document"]["text"] for one in with_texts] == [texts[one["index"]] for one in with_texts]


def test_cohere_v1_takes_objects(reranking, texts):
    def order(documents, **more):
        body = {"query": QUERY, "documents": documents, **more}
        return [one["index"] for one in reranking.client.post("/v1/rerank", json=body).json()["results"]]

    assert order([{"text": text} for text in texts]) == order(texts)
    fields = [{"title": text, "body": text[::-1], "other": 1} for text in texts]
    joined = [f"title: {text}\nbody: {text[::-1]}" for text in texts]
    assert order(fields, rank_fields=["title", "body"]) == order(joined)


def test_objects_without_a_text_are_refused(reranking):
    answer = reranking.client.post("/v1/rerank", json={"query": QUERY, "documents": ["tea", {"title": "tea"}]})
    assert answer.status_code == 422
    assert "documents.1" in answer.json()["message"]


@pytest.mark.parametrize("raw", [False, True])
def test_text_embeddings_inference(reranking, poly, texts, raw):
    scores = poly.score_lists([QUERY], [texts])[0]
    body = {"query": QUERY, "texts": texts, "raw_scores": raw, "return_text": True}
    answer = reranking.client.post("/rerank", json=body).json()
    check(answer, scores, None, "score", (lambda score: score) if raw else (lambda score: (1 + score) / 2))
    assert answer[0]["text"] == texts[answer[0]["index"]]


@pytest.mark.parametrize("path", PATHS)
def test_what_is_sent_decides_what_is_answered(reranking, poly, texts, path):
    scores = poly.score_lists([QUERY], [texts])[0]

    def post(body):
        answer = reranking.client.post(path, json={"query": QUERY, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    check(post({"texts": texts}), scores, None, "score")
    check(post({"documents": texts, "top_k": 3, "model": "m"})["data"], scores, 3)
    weaviate = post({"documents": texts})["scores"]
    assert [one["document"] for one in weaviate] == texts
    np.testing.assert_allclose([one["score"] for one in weaviate], (1 + scores) / 2, atol=1e-5)
    nvidia = post({"query": {"text": QUERY}, "passages": [{"text": text} for text in texts], "model": "m"})
    check(nvidia["rankings"], scores, None, "logit", lambda score: score)
    mixedbread = post({"input": texts, "top_k": 2, "return_input": True})
    check(mixedbread["data"], scores, 2, "score")
    assert [one["input"] for one in mixedbread["data"]] == [texts[one["index"]] for one in mixedbread["data"]]
    everything = ("top_n", "top_k", "return_documents", "raw_scores", "rank_fields", "model", "truncate", "user")
    assert len(post({"documents": texts, **dict.fromkeys(everything)})["results"]) == len(texts), "null is nothing"


@pytest.mark.parametrize("name", ["raw", "cross"])
def test_scores_that_are_no_cosines_become_probabilities(serve, models, texts, name):
    server = serve(model=str(models / name), bf16=False)
    scores = load_model(models / name).score_lists([QUERY], [texts])[0].astype(float)
    answer = server.client.post("/v2/rerank", json={"query": QUERY, "documents": texts}).json()
    check(answer["results"], scores, None, shown=lambda score: 1 / (1 + np.exp(-score)))
    assert all(0 <= one["relevance_score"] <= 1 for one in answer["results"])


def test_equal_documents_keep_their_order(reranking):
    answer = reranking.client.post("/rerank", json={"query": QUERY, "texts": ["tea", "rain", "tea", "tea"]}).json()
    assert [one["index"] for one in answer if one["index"] != 1] == [0, 2, 3]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": [], "documents": ["a"]}, "query"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": "b"}, "documents"),
        ({"query": "a", "documents": ["b", 3]}, "documents.1"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ({"query": "a", "documents": ["b"], "truncate": "MIDDLE"}, "truncate"),
        ({"query": "a", "documents": [{"image": "data:"}]}, "documents.0: the object lacks a `text`"),
    ],
)
def test_what_is_wrong_is_said_in_the_shape_the_client_knows(reranking, body, says):
    for path in PATHS:
        answer = reranking.client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert says in answer.json()["message"], answer.json()
        assert answer.json()["message"] == answer.json()["detail"] == answer.json()["error"]
    tei = {name.replace("documents", "texts"): value for name, value in body.items()}
    answer = reranking.client.post("/rerank", content=json.dumps(tei), headers={"content-type": "application/json"})
    if "top_n" not in body:
        assert answer.json()["error_type"] == "Validation"
        assert says.replace("documents", "texts") in answer.json()["error"]


def test_more_than_a_request_may_hold(serve):
    from polyencoders.serving.settings import Limits

    server = serve(limits=Limits(documents=3, text=100, turns=2))
    for body, says in (
        ({"query": "a", "documents": ["b"] * 4}, "4 texts, the most in one request is 3"),
        ({"query": "a", "documents": ["b", "c" * 101]}, "documents.1: 101 characters, the most is 100"),
        ({"query": "a" * 101, "documents": ["b"]}, "query: 101 characters"),
        ({"query": ["a"] * 3, "documents": ["b"]}, "query: 3 turns"),
    ):
        answer = server.client.post("/v2/rerank", json=body)
        assert answer.status_code == 413
        assert says in answer.json()["message"]


def test_objects_whose_texts_cannot_be_written_or_are_too_many(reranking):
    def post(**body):
        content = json.dumps({"query": "a", **body})
        return reranking.client.post("/v1/rerank", content=content, headers={"content-type": "application/json"})

    assert post(documents=[{"text": "\ud800"}]).headers["x-notes"] == "documents.0.text: half a character was replaced"
    assert post(documents=[{"a": "\ud800"}], rank_fields=["a"]).status_code == 200
    assert post(documents=[{"a": "b"}], rank_fields=["\ud800"]).status_code == 422
    assert post(documents=[{"a": "b"}], rank_fields=["a"] * 2000).status_code == 413
    repeated = post(documents=[{"a": "b" * 1000}], rank_fields=["a"] * 900, return_documents=True).json()
    assert repeated["results"][0]["document"]["text"] == "a: " + "b" * 1000


def test_all_turns_together_are_not_too_long(serve):
    from polyencoders.serving.settings import Limits

    server = serve(limits=Limits(text=100))
    assert server.client.post("/rerank", json={"query": ["a" * 50] * 3, "texts": ["b"]}).status_code == 413
    assert server.client.post("/rerank", json={"query": ["a" * 50] * 2, "texts": ["b"]}).status_code == 200


@pytest.mark.parametrize("bf16", [False, True])
def test_an_answer_does_not_depend_on_who_else_asks(serve, texts, bf16):
    """In fp32 but for rounding. In bf16 a vector depends on the batch it was made in, by some thousandths of its
    length; it is made once, and kept: from then on answers are the same to the last bit of fp32."""
    bodies = [
        {"query": ["Good morning.", f"Any {text}?"] if number % 2 else f"Any {text}?", "texts": [*texts[number:], text]}
        for number, text in enumerate(texts[:40])
    ]

    def scores(answer):
        assert answer.status_code == 200
        return {one["index"]: one["score"] for one in answer.json()}

    def crowd(server):
        with ThreadPoolExecutor(20) as pool:
            return list(
                pool.map(
                    lambda body: scores(
                        httpx.post(f"{server.url}/rerank", json={**body, "raw_scores": True}, timeout=60, verify=False)
                    ),
                    bodies,
                )
            )

    alone = serve(bf16=bf16)
    expected = [scores(alone.client.post("/rerank", json={**body, "raw_scores": True})) for body in bodies]
    together = serve(bf16=bf16)
    first, second = crowd(together), crowd(together)
    for one, two, wanted in zip(first, second, expected, strict=True):
        places = sorted(wanted)
        wanted = [wanted[place] for place in places]
        np.testing.assert_allclose([one[place] for place in places], wanted, atol=2e-2 if bf16 else 1e-5)
        np.testing.assert_allclose([two[place] for place in places], [one[place] for place in places], atol=1e-5)
        if not bf16:
            order = np.argsort(-np.array(wanted), kind="stable")
            gaps = np.diff(np.array(wanted)[order])
            if np.abs(gaps).min() > 1e-5:
                assert list(one) == [places[place] for place in order]


def test_a_calibrated_model_gives_probabilities(serve, models, tmp_path):
    import shutil

    from polyencoders.encoders.calibration import Calibration

    copied = shutil.copytree(models / "poly", tmp_path / "poly")
    calibration = Calibration(3.0, -2.0, 40, 20)
    calibration.write(copied)
    post = serve(model=str(copied)).client.post
    asked = {"query": "tea", "texts": ["tea and bread", "the river"]}
    raw = {one["index"]: one["score"] for one in post("/rerank", json={**asked, "raw_scores": True}).json()}
    shown = {one["index"]: one["score"] for one in post("/rerank", json=asked).json()}
    for place, score in raw.items():
        assert shown[place] == pytest.approx(1 / (1 + np.exp(2.0 - 3.0 * score)))


@pytest.mark.parametrize("name", ["poly", "raw", "cross"])
def test_one_blank_document_does_not_condemn_the_rest(serve, models, name):
    post = serve(model=str(models / name), bf16=False).client.post
    documents = ["tea and bread", "", " \n", None, {"text": ""}, "the river"]
    answer = post("/v1/rerank", json={"query": "tea", "documents": documents})
    rows = answer.json()["results"]
    assert [one["index"] for one in rows[2:]] == [1, 2, 3, 4]
    assert all(one["relevance_score"] < 1e-9 for one in rows[2:])
    assert min(one["relevance_score"] for one in rows[:2]) > 0
    said = "documents.1, documents.2, documents.3, documents.4: blank, so it gets the lowest score"
    assert answer.json()["meta"]["warnings"] == [said]
    assert answer.headers["x-notes"] == said
    alone = post("/rerank", json={"query": "tea", "texts": ["tea and bread", "the river"]}).json()
    assert [one["score"] for one in alone] == pytest.approx([one["relevance_score"] for one in rows[:2]], abs=1e-5)
    assert post("/rerank", json={"query": "tea", "texts": ["", " "]}).status_code == 200
    strict = post("/v1/rerank", json={"query": "tea", "documents": documents}, headers={"prefer": "handling=strict"})
    assert strict.status_code == 422
    assert said in strict.json()["message"]


def test_unknown_fields_are_said(reranking, serve):
    asked = {"query": "tea", "documents": ["tea"], "instruction": "Be kind", "caf\u00e9\n": 1}
    answer = reranking.client.post("/v2/rerank", json=asked)
    assert answer.headers["x-notes"] == "caf\\xe9?, instruction: not known here, so not used"
    for name in (" ", "", "\t", "a" * 9000, "x\r\ny: z"):
        content = json.dumps({"query": "tea", "documents": ["tea"], name: 1})
        answer = reranking.client.post("/v2/rerank", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 200, "a name that somebody made up does no harm to a header"
        assert len(answer.headers["x-notes"]) < 300
    strict = serve(strict=True).client
    assert strict.post("/v2/rerank", json=asked).status_code == 422
    assert strict.post("/v2/rerank", json=asked, headers={"prefer": "handling=lenient"}).status_code == 200


def test_texts_are_cut_as_the_client_wants(reranking, poly, texts):
    long = "bread " * 200 + "tea in the kitchen"

    def score(**how):
        answer = reranking.client.post("/rerank", json={"query": QUERY, "texts": [long], "raw_scores": True, **how})
        return answer.json()[0]["score"] if answer.status_code == 200 else (answer.status_code, answer.json()["error"])

    def expected(text):
        return pytest.approx(float(poly.score_lists([QUERY], [[text]])[0][0]), abs=1e-5)

    longest = poly.max_seq_length - 2
    assert score() == score(truncate=True) == score(truncate="END") == expected("bread " * longest)
    newest = "bread " * (longest - 4) + "tea in the kitchen"
    assert score(truncation_direction="Left") == score(truncate="START") == expected(newest)
    assert score(max_tokens_per_doc=12) == expected("bread " * 10)
    status, error = score(truncate=False)
    assert (status, error) == score(truncation=False)
    assert status == 413
    assert error.startswith("texts.0: 206 tokens, the most is 128")
    assert isinstance(score(max_tokens_per_doc=4000), float)
