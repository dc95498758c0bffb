"""Health, figures, logs, the OpenAPI document, and what is served replaced while requests go on."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from polyencoders import PolyEncoder
from polyencoders.serving.errors import without_paths

ASK = {"query": "Any tea?", "texts": ["tea", "bread", "rain"], "raw_scores": True}


def figures(server):
    found = {}
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] = sample.value
    return found


def test_health_and_information(shared_searching):
    assert shared_searching.client.get("/health").json() == {"status": "ok"}
    assert shared_searching.client.get("/ready").json() == {"status": "ready"}
    info = shared_searching.client.get("/info").json()
    assert (info["model_id"], info["architecture"], info["dimension"]) == ("poly", "PolyEncoder", 16)
    assert (info["index"]["name"], info["index"]["documents"]) == ("replies", 60)
    assert info["limits"]["documents"] == 1000


def test_figures(searching):
    for _ in range(3):
        searching.client.post("/rerank", json=ASK)
    searching.client.post("/rerank", json={})
    searching.client.get("/a/path/that/somebody/made/up")
    found = figures(searching)
    assert found["polyencoders_requests_total", "/rerank", "200"] == 3
    assert found["polyencoders_requests_total", "/rerank", "422"] == 1
    assert found["polyencoders_requests_total", "other", "404"] == 1
    assert found["polyencoders_texts_total", "queries"] == 3
    assert found["polyencoders_texts_total", "documents"] == 3, "each was encoded once"
    assert found["polyencoders_document_cache_vectors",] == 3
    assert found["polyencoders_index_documents",] == 60
    assert not any("made" in str(key) for key in found)


def test_every_answer_is_described(shared_searching):
    document = shared_searching.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/search", "/documents", "/v1/embeddings", "/reload"):
        responses = document["paths"][path]["post"]["responses"]
        assert {"200", "401", "413", "422", "429"} <= set(responses), path


def test_requests_have_ids(reranking):
    answer = reranking.client.get("/health", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    for strange in ("a b", "x" * 500, "<script>"):
        assert reranking.client.get("/health", headers={"x-request-id": strange}).headers["x-request-id"] != strange


def test_the_log_is_json_and_holds_no_text(reranking, monkeypatch):
    from polyencoders.serving.run import log_as_json

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log_as_json()
    try:
        reranking.client.post("/rerank", json={"query": "a private matter", "texts": ["a secret"]})
        deadline = time.time() + 5
        while "/rerank" not in stream.getvalue() and time.time() < deadline:
            time.sleep(0.01)
    finally:
        root.handlers, root.level = before
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line.get("route") == "/rerank"]
    assert (line["status"], line["level"], line["method"]) == (200, "INFO", "POST")
    assert "private" not in stream.getvalue()
    assert "secret" not in stream.getvalue()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/srv/models/mine: damaged", "mine: damaged"),
        ("cannot open '/a/b.c'", "cannot open 'b.c'"),
        ("a/b and 1/2 and https://example.org/x/y", "a/b and 1/2 and https://example.org/x/y"),
        ("lance error at /home/u/i/documents.lance/data/x.lance, code 2", "lance error at x.lance, code 2"),
        ("nothing", "nothing"),
    ],
)
def test_no_paths_in_messages(given, shown):
    assert without_paths(given) == shown


# -- replaced while requests go on -------------------------------------------------------------------------------------


def test_a_model_is_replaced_without_dropping_a_request(serve, models, tmp_path):
    path = tmp_path / "model"
    scale = {}
    for name, factor in (("one", 1.0), ("two", -1.0)):
        model = PolyEncoder(str(models / "raw"))
        model.query_codes.linear_maps.data.mul_(factor)
        scale[name] = (model, model.score_lists([ASK["query"]], [ASK["texts"]])[0])
    scale["one"][0].save_pretrained(str(path))
    server = serve(model=str(path), bf16=False)
    stop, wrong, seen = threading.Event(), [], []

    def ask():
        with httpx.Client(base_url=server.url, timeout=30, verify=False) as client:
            while not stop.is_set():
                answer = client.post("/rerank", json=ASK)
                scores = np.zeros(3)
                for one in answer.json() if answer.status_code == 200 else []:
                    scores[one["index"]] = one["score"]
                which = [name for name, (_, expected) in scale.items() if np.allclose(scores, expected, atol=1e-4)]
                (seen if which else wrong).append(which[0] if which else (answer.status_code, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for name in ("two", "one", "two"):
        scale[name][0].save_pretrained(str(path))
        assert server.client.post("/reload").json()["model_id"] == "model"
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert set(seen) == {"one", "two"}
    assert seen[-1] == "two"
    assert figures(server)["polyencoders_generation",] == 4


def test_what_cannot_be_loaded_is_not_served(serve, models, tmp_path):
    path = tmp_path / "model"
    PolyEncoder(str(models / "poly")).save_pretrained(str(path))
    server = serve(model=str(path))
    expected = server.client.post("/rerank", json=ASK).json()
    (path / "config_sentence_transformers.json").write_text("{")
    answer = server.client.post("/reload")
    assert answer.status_code == 409
    assert str(tmp_path) not in answer.text
    assert server.client.post("/rerank", json=ASK).json() == expected


# -- the process -------------------------------------------------------------------------------------------------------


@pytest.fixture
def process(models, tmp_path):
    """`polyencoders serve` as a process of its own: its address, and the process."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port = tried.getsockname()[1]
    command = [sys.executable, "-m", "polyencoders", "serve", "--no-page", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = []

    def start(*arguments):
        with (tmp_path / "log").open("ab") as log:
            one = subprocess.Popen([*command, *map(str, arguments)], stdout=log, stderr=log, env=environment)
        started.append(one)
        url = f"http://127.0.0.1:{port}"
        deadline = time.time() + 120
        while True:
            assert one.poll() is None, (tmp_path / "log").read_text()
            assert time.time() < deadline
            try:
                if httpx.get(f"{url}/ready", verify=False).status_code == 200:
                    return url, one
            except httpx.TransportError:
                time.sleep(0.05)

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_signals_load_again_and_stop_gracefully(process, models):
    url, one = process(models / "poly")
    one.send_signal(signal.SIGHUP)
    deadline = time.time() + 30
    while "polyencoders_generation 2.0" not in httpx.get(f"{url}/metrics", verify=False).text:
        assert time.time() < deadline
        time.sleep(0.05)
    answers = []
    long = {"query": "tea", "texts": [f"{number} " + "bread " * 120 for number in range(900)]}
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{url}/rerank", json=long, timeout=60, verify=False))
    )
    asking.start()
    while (
        "polyencoders_requests_in_progress 2.0" not in httpx.get(f"{url}/metrics", verify=False).text
    ):  # this one and the long one
        time.sleep(0.01)
        if answers:
            break
    one.send_signal(signal.SIGTERM)
    asking.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()) == 900
    assert one.wait(60) == 0


def test_an_index_that_cannot_be_opened_again(searching, index):
    (index / "documents.lance").rename(index / "elsewhere")
    answer = searching.client.post("/reload")
    assert answer.status_code == 409
    assert str(index.parent) not in answer.text
    (index / "elsewhere").rename(index / "documents.lance")
    assert searching.client.post("/search", json={"query": "tea"}).status_code == 200
    assert searching.client.post("/reload").status_code == 200
