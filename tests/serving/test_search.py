"""The index over HTTP, against the index asked directly; what is acknowledged is on disk, and found."""

import threading
import time

import httpx
import numpy as np
import pytest

from polyencoders import PolyEncoder
from polyencoders.index import Index

QUERY = "Any tea in the garden?"


def search(server, **body):
    answer = server.client.post("/search", json={"query": QUERY, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"k": 3},
        {"where": "lang = 'de' AND year > 2010"},
        {"mode": "fast", "share": 0.5},
        {"words": True},
        {"words": 7.5, "mode": "fast", "share": 0.5},
    ],
)
def test_hits_are_the_indexs(shared_searching, shared_index, asked):
    found, expected = search(shared_searching, **asked), Index.open(shared_index).search(QUERY, **asked)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], [hit.score for hit in expected], atol=1e-6)
    assert [(hit["text"], hit["metadata"]) for hit in found["hits"]] == [(hit.text, hit.metadata) for hit in expected]
    assert (found["certified"], found["version"]) == (expected.certified, expected.version)
    assert found["error"] == pytest.approx(expected.error)


def test_a_conversation_is_a_query(shared_searching, shared_index):
    talk = ["Good morning.", "It rains.", "Then let us take the train."]
    assert [hit["id"] for hit in search(shared_searching, query=talk)["hits"]] == [
        hit.id for hit in Index.open(shared_index).search([talk])[0]
    ]


def test_documents_come_and_go(searching, index):
    new = {"id": "new", "text": "garden tea, any garden tea", "lang": "fr", "tags": ["a", {"b": 1}]}
    post = searching.client.post
    answer = post("/documents", json={"documents": [new, {"text": "a second one"}]}).json()
    assert {name: answer[name] for name in ("added", "replaced", "unchanged")} == {
        "added": 2,
        "replaced": 0,
        "unchanged": 0,
    }
    assert [hit["id"] for hit in search(searching, where="lang = 'fr'")["hits"]] == ["new"]
    assert searching.client.get("/documents/new").json() == new
    assert Index.open(index).get(["new"])[0]["text"] == new["text"], "acknowledged: on disk"
    assert post("/documents", json={"documents": [new]}).json()["unchanged"] == 1
    changed = post("/documents", json={"documents": [{**new, "text": "winter train"}]}).json()
    assert changed["replaced"] == 1
    assert changed["version"] > answer["version"]
    assert post("/documents/delete", json={"ids": ["new", "never"]}).json()["deleted"] == 1
    assert post("/documents/delete", json={"where": "year < 2000"}).json()["deleted"] == 10
    assert searching.client.get("/documents/new").status_code == 404
    assert not search(searching, where="year < 2000")["hits"]


def test_an_index_that_keeps_passages(serve, tiny_backbone, tmp_path):
    """Documents come, are found, explained, read and go as documents."""
    PolyEncoder(tiny_backbone, m=3, normalize=True, document_length=8).save_pretrained(str(tmp_path / "short"))
    index = Index.create(tmp_path / "long", tmp_path / "short")
    long = {"id": "long", "text": "garden and river, kitchen and letter, " * 6, "lang": "en"}
    index.add([long, {"id": "short", "text": "tea"}], passages=True)
    client = serve(index=tmp_path / "long").client

    def post(path, **body):
        return client.post(path, json=body).json()

    read = client.get("/documents/long").json()
    assert read == {"id": "long", "passages": index.get(["long"])}
    assert [passage["passage"] for passage in read["passages"]] == list(range(1, len(index)))
    first = read["passages"][0]
    assert client.get(f"/documents/{first['id']}").json() == first
    assert client.get("/documents/short").json() == {"id": "short", "text": "tea"}
    hits = post("/search", query="garden and river")["hits"]
    assert sorted(hit["id"] for hit in hits) == ["long", "short"]
    explained = post("/explain", query="garden and river")["rankings"][0]["hits"]
    assert [hit["id"] for hit in explained] == [hit["id"] for hit in hits]
    assert all(hit["why"] for hit in explained)
    other = {"id": "other", "text": "winter train, " * 20}
    assert post("/documents", documents=[other])["added"] > 1, "in passages, as the index keeps them"
    assert len(client.get("/documents/other").json()["passages"]) > 1
    assert post("/documents", documents=[{**other, "text": "winter"}])["added"] == 1
    assert client.get("/documents/other").json()["text"] == "winter"
    taken = {"documents": [{"id": "x", "text": "tea", "passage_of": "long", "passage": 7}]}
    refused = client.post("/documents", json=taken)
    assert (refused.status_code, "rename it" in refused.json()["message"]) == (422, True)
    assert post("/documents", documents=read["passages"])["unchanged"] == len(read["passages"])
    assert post("/documents/delete", ids=["long"])["deleted"] == len(read["passages"])
    assert client.get("/documents/long").status_code == 404


def test_an_id_may_hold_anything(searching):
    for id in ("a/b c?d=e", "ü#%41", "../../etc/passwd"):
        assert searching.client.post("/documents", json={"documents": [{"id": id, "text": "tea"}]}).status_code == 200
        (hit,) = search(searching, where=f"id = '{id}'")["hits"]
        assert hit["id"] == id
    assert searching.client.get("/documents/a%2Fb%20c%3Fd%3De").json()["text"] == "tea"


def test_what_another_process_writes_is_found_soon(searching, index, monkeypatch):
    Index.open(index).add([{"id": "elsewhere", "text": "written elsewhere", "lang": "xx"}])
    deadline = time.time() + 20
    while not search(searching, where="lang = 'xx'")["hits"]:
        assert time.time() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/search", {"query": "a", "where": "lang ="}, "lang ="),
        ("/search", {"query": "a", "where": "colour = 'red'"}, "colour"),
        ("/search", {"query": "a", "k": 0}, "k:"),
        ("/search", {"query": "a", "mode": "quick"}, "mode"),
        ("/search", {"query": "a", "share": 0.5}, "share"),
        ("/documents", {"documents": [{"id": "x"}]}, "documents.0.text"),
        ("/documents", {"documents": [{"text": "a", "id": 7}]}, "documents.0.id"),
        ("/documents", {"documents": [{"text": "a", "year": "soon"}]}, "year"),
        ("/documents", {"documents": [{"text": "a", "n": 10**30}]}, "64 bits"),
        ("/documents/delete", {}, "one of the two"),
        ("/documents/delete", {"ids": ["a"], "where": "b"}, "one of the two"),
    ],
)
def test_what_is_wrong_is_said(shared_searching, shared_index, path, body, says):
    answer = shared_searching.client.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert says in answer.json()["error"]
    assert str(shared_index.parent) not in answer.text
    assert len(Index.open(shared_index)) == 60


def test_more_hits_than_allowed(shared_searching):
    assert shared_searching.client.post("/search", json={"query": "a", "k": 5000}).status_code == 413


def test_without_an_index(reranking):
    for path, body in (
        ("/search", {"query": "a"}),
        ("/documents", {"documents": [{"text": "a"}]}),
        ("/documents/delete", {"ids": ["a"]}),
    ):
        answer = reranking.client.post(path, json=body)
        assert (answer.status_code, answer.json()["error_type"]) == (404, "NotFound")
        assert "--index" in answer.json()["error"]


def test_a_filter_that_would_end_the_process(shared_searching):
    for where in ("year + " * 2000 + "1 > 0", "NOT " * 5000 + "true", "length(repeat('a', 2000000000)) > 1"):
        answer = shared_searching.client.post("/search", json={"query": "a", "where": where})
        assert answer.status_code == 422
        assert len(answer.json()["detail"]) < 400
        assert shared_searching.client.post("/documents/delete", json={"where": where}).status_code == 422
    assert shared_searching.client.post("/search", json={"query": "a", "where": "a" * 300_000}).status_code == 413
    assert len(search(shared_searching)["hits"]) == 10


@pytest.mark.parametrize("name", ["", "*", "\0", "a\0b", "a.b", "_rowid", "vector"])
def test_names_that_would_spoil_the_index(shared_searching, shared_index, name):
    answer = shared_searching.client.post("/documents", json={"documents": [{"text": "a", name: 1}]})
    assert answer.status_code == 422
    assert "metadata cannot be named" in answer.json()["error"]
    assert len(Index.open(shared_index).search("a", k=100)) == 60


def test_names_of_metadata_are_few(shared_searching):
    wide = [{"text": f"a {n}", f"name {n}": 1} for n in range(101)]
    answer = shared_searching.client.post("/documents", json={"documents": wide})
    assert answer.status_code == 413
    assert "101 names of metadata" in answer.json()["error"]


def test_searches_do_not_wait_for_changes(searching):
    """Changes wait for one another; were each to hold a thread, a few of them would leave none to search with."""
    served = searching.application.current._served
    go, begun = threading.Event(), threading.Event()
    real = served.engine.encode_for_index

    def slow(texts, done):
        begun.set()
        assert go.wait(20)
        return real(texts, done)

    served.engine.encode_for_index = slow
    answers = []

    def add(number):
        body = {"documents": [{"id": f"slow {number}", "text": f"slow {number}"}]}
        answers.append(httpx.post(f"{searching.url}/documents", json=body, timeout=30, verify=False).status_code)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    try:
        for _ in range(5):
            assert len(search(searching)["hits"]) == 10
            assert searching.client.get("/documents/r1").status_code == 200
    finally:
        go.set()
        for thread in threads:
            thread.join()
    assert answers == [200] * 40
    assert len(search(searching, where="id LIKE 'slow %'", k=50)["hits"]) == 40


def test_a_reranker_reads_the_best(serve, shared_index, models):
    server = serve(index=shared_index, rerank=str(models / "cross"), rerank_top=8, rerank_weight=0.5)
    assert server.client.get("/info").json()["reranker"] == "cross"
    index = Index.open(shared_index)
    for asked in ({}, {"k": 3}, {"k": 9, "rerank_top": 5}, {"where": "lang = 'de'"}):
        expected = index.search(QUERY, rerank=models / "cross", rerank_weight=0.5, **{"rerank_top": 8, **asked})
        found = search(server, **asked)
        assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected]
        np.testing.assert_allclose([hit["score"] for hit in found["hits"]], [hit.score for hit in expected], atol=1e-4)
        assert (found["read"], found["certified"]) == (expected.read, True)
        explained = server.client.post("/explain", json={"query": QUERY, **asked}).json()["rankings"][0]
        assert [hit["id"] for hit in explained["hits"]] == [hit.id for hit in expected]
        assert f"{expected.read} read by cross" in explained["times"]
    assert search(server, rerank=False)["hits"] == search(server, rerank_budget=0)["hits"]
    assert search(server, rerank=False)["read"] is None
    assert search(server, query="never asked before", rerank_budget=0)["read"] == 0
    assert server.client.post("/search", json={"query": QUERY, "rerank_top": 1001}).status_code == 413


def test_a_request_does_not_raise_the_settings_of_the_reranker(serve, shared_index, models):
    more = {"rerank_top": 30, "rerank_budget": 1e9}
    server = serve(index=shared_index, rerank=str(models / "cross"), rerank_top=8)
    assert [search(server, **asked)["read"] for asked in (more, {"rerank_top": 3}, {"rerank_budget": 0})] == [8, 3, 0]
    assert search(server, query="never asked before", rerank_budget=0)["read"] == 0
    server = serve(index=shared_index, rerank=str(models / "cross"), rerank_top=8, rerank_budget=0)
    assert search(server, **more)["read"] == 0


def test_many_requests_share_a_reranker(serve, shared_index, models):
    from concurrent.futures import ThreadPoolExecutor

    server = serve(index=shared_index, rerank=str(models / "cross"))
    index = Index.open(shared_index)
    queries = [f"{word} and rain" for word in ("tea", "bread", "music", "winter")]
    expected = {query: [hit.id for hit in index.search(query, 5, rerank=models / "cross")] for query in queries}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: search(server, query=queries[place % 4], k=5), range(24)))
    assert [[hit["id"] for hit in one["hits"]] for one in found] == [expected[queries[i % 4]] for i in range(24)]


def test_probabilities_are_of_the_search_that_was_tuned(serve, index, shared_index):
    from polyencoders.encoders.calibration import Calibration
    from polyencoders.index.tuning import Tuning

    tuned = Index.open(index)
    tuned.set_tuning(Tuning(tuned.loaded_model().fingerprints.queries, calibration=Calibration(0.8, -1.0, 40, 20)))
    post = serve(index=index).client.post

    def said(**asked):
        rankings = post("/explain", json={"query": QUERY, **asked}).json()["rankings"]
        return [{hit["probability"] is None for hit in ranking["hits"]} for ranking in rankings]

    assert said() == [{False}]
    assert said(compare=True) == [{True}, {True}], "of other models, and of averaged codes, nothing is known"
    for more in ({"compare": True}, {"documents": ["tea", "bread"]}):
        refused = post("/explain", json={"query": QUERY, "min_probability": 0.5, **more})
        assert (refused.status_code, f"leave out {next(iter(more))}" in refused.json()["message"]) == (422, True)
    untuned = serve(index=shared_index).client.post("/explain", json={"query": QUERY, "min_probability": 0.5})
    assert (untuned.status_code, "polyencoders tune" in untuned.json()["message"]) == (422, True)


def test_a_tuned_index_is_searched_as_it_was_tuned(serve, index, models):
    from polyencoders.encoders import Reranker
    from polyencoders.encoders.calibration import Calibration
    from polyencoders.index.tuning import Tuning

    tuned, cross = Index.open(index), str(models / "cross")
    fingerprint = Reranker(cross).model.fingerprint
    calibration = Calibration(0.8, -1.0, 40, 20)
    queries = tuned.loaded_model().fingerprints.queries
    tuned.set_tuning(Tuning(queries, None, cross, fingerprint, 15, 0.5, calibration, 40))
    server = serve(index=index)
    assert server.client.get("/info").json()["reranker"] == "cross"
    expected, found = tuned.search(QUERY, 5), search(server, k=5)
    assert found["read"] == expected.read == 15
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in expected]
    said = [hit.probability for hit in expected]
    np.testing.assert_allclose([hit["probability"] for hit in found["hits"]], said, atol=1e-5)
    likely = search(server, k=5, min_probability=said[1] - 1e-6)
    assert [hit["id"] for hit in likely["hits"]] == [hit.id for hit in expected[:2]]
    asked = {"query": QUERY, "rerank": False, "min_probability": 0.5}
    for path in ("/search", "/explain"):
        assert server.client.post(path, json=asked).status_code == 422
    assert {hit["probability"] for hit in search(server, rerank=False)["hits"]} == {None}
    explained = server.client.post("/explain", json={"query": QUERY, "k": 5, "min_probability": said[1] - 1e-6}).json()
    assert [hit["id"] for hit in explained["rankings"][0]["hits"]] == [hit.id for hit in expected[:2]]
    assert serve(index=index, rerank=False).client.get("/info").json()["reranker"] is None
