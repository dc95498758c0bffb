"""The server on a cluster answers as the server on one machine does, says when it cannot, and leaves nothing behind.

One command serves all of these tests, in the order they stand in.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest
import ray
from fastapi import testclient

from polyencoders.distributed.deployment import deployed
from polyencoders.errors import ClusterError
from polyencoders.serving.app import Server
from polyencoders.serving.settings import Limits, Settings

KEY = {"x-api-key": "a key"}
COMMAND = (sys.executable, "-m", "polyencoders", "serve", "--no-page")


def until(condition, seconds=60):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def idle():
    """Whether nothing of a server is left on the cluster."""
    free, there = ray.available_resources().get("CPU"), ray.cluster_resources()["CPU"]
    return free == there and not ray.util.list_named_actors(all_namespaces=True)


@pytest.fixture(scope="module")
def folder(made, model, documents, tmp_path_factory):
    """An index that these tests change."""
    return made(tmp_path_factory.mktemp("served") / "index", model, documents).path


@pytest.fixture(scope="module")
def port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def process(cluster, folder, port):
    """The command, once it says that it listens."""
    until(idle)  # the shards of other tests have ended
    process = subprocess.Popen(
        [
            *(*COMMAND, "--index", str(folder), "--port", str(port), "--max-documents", "50"),
            *("--ray", cluster, "--shards", "2", "--threads", "1", "--patience", "1"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "POLYENCODERS_API_KEY": "a key"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True).start()
    try:
        said = ""
        while "Listening at" not in said:
            assert process.poll() is None, said
            said += lines.get(timeout=120)
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def client(process, port):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=KEY, timeout=60, verify=False) as client:
        until(lambda: client.get("/ready").status_code == 200)
        yield client


@pytest.fixture
def alone(folder):
    """The same on one machine."""
    application = Server(Settings(index=folder, page=False, key="a key", limits=Limits(documents=50)))
    with testclient.TestClient(application, base_url="http://127.0.0.1", headers=KEY) as client:
        yield client


def shards():
    """The processes that hold shares, of this cluster alone."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.name().startswith("ray::Shard") and one.environ().get("RAY_TMPDIR") == os.environ["RAY_TMPDIR"]:
                found.append(one)
        except psutil.Error:
            continue
    return found


def search(client, **how):
    """The status and the answer of a search, without its times."""
    answer = client.post("/search", json={"query": "amber and cedar", "k": 7, **how})
    return answer.status_code, {name: value for name, value in answer.json().items() if not name.endswith("_ms")}


QUESTIONS = [
    ("POST", "/search", {"query": "amber", "k": 0}),
    ("POST", "/search", {"query": "amber", "where": "nonsense >"}),
    ("POST", "/search", {"query": "amber", "k": 5000}),
    ("POST", "/rerank", {"query": ["a", "b"], "texts": ["amber", "birch and cedar"], "raw_scores": True}),
    ("POST", "/rerank", {"query": "a", "texts": ["x"] * 51}),
    ("POST", "/v2/rerank", {"query": "a"}),
    ("POST", "/v1/embeddings", {"input": ["amber"], "model": "any"}),
    ("GET", "/documents/d8", None),
    ("GET", "/documents/nobody", None),
    ("GET", "/info", None),
    ("GET", "/health", None),
    ("GET", "/openapi.json", None),
    ("GET", "/nothing/here", None),
    ("POST", "/documents", {"documents": [{"text": ""}]}),
]


def test_it_answers_as_on_one_machine(client, alone):
    for how in ({}, {"where": "odd"}, {"mode": "fast", "share": 0.1}, {"k": 1000}, {"query": ["amber", "birch"]}):
        assert search(client, **how) == search(alone, **how)
    for method, path, body in QUESTIONS:
        ours, theirs = client.request(method, path, json=body), alone.request(method, path, json=body)
        assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json()), path
    for one in (client, alone):
        assert one.get("/info", headers={"x-api-key": "another"}).status_code == 401
        assert one.get("/info", headers={"host": "example.org"}).status_code == 421
        assert one.get("/info", headers={"origin": "http://example.org"}).status_code == 403
        assert one.post("/search", content=b"x" * 9_000_000).status_code == 413


def test_changes_are_found_when_it_answers_and_it_loads_again(client):
    added = client.post("/documents", json={"documents": [{"id": "new", "text": "amber and cedar"}]}).json()
    assert added["added"] == 1
    _, found = search(client, where="id = 'new'")
    assert ([hit["id"] for hit in found["hits"]], found["version"]) == (["new"], added["version"])
    assert client.post("/documents/delete", json={"ids": ["new"]}).json()["deleted"] == 1
    assert search(client, where="id = 'new'")[1]["hits"] == []
    assert client.post("/reload").json()["generation"] == 2
    assert search(client)[0] == 200
    figures = client.get("/metrics").text
    assert "polyencoders_index_whole 1.0" in figures
    assert 'polyencoders_requests_total{route="/search",status="200"}' in figures


def test_while_a_shard_hangs_it_says_so(client):
    before = search(client)
    stopped = shards()[0]
    stopped.suspend()
    try:
        refused = client.post("/search", json={"query": "amber"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "1 of 2 shards did not answer within 1 s" in refused.json()["error"]
        assert client.get("/ready").json() == {"status": "restoring"}
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        assert "polyencoders_index_whole 0.0" in client.get("/metrics").text
        assert client.post("/rerank", json={"query": "a", "texts": ["b"]}).status_code == 200
    finally:
        stopped.resume()
    until(lambda: client.get("/ready").status_code == 200)
    assert search(client) == before


def test_a_shard_that_dies_is_restored_and_no_answer_is_wrong_meanwhile(client):
    before = search(client)
    killed = shards()[0]
    killed.kill()
    until(lambda: len([one for one in shards() if one != killed]) == 2)

    def whole_again():
        status, found = search(client)
        assert status == 503 or (status, found) == before
        return status == 200

    until(whole_again)
    until(lambda: client.get("/ready").status_code == 200)


def test_a_cluster_has_one_server_and_a_port_one_listener(client, cluster, folder, port):
    with (
        pytest.raises(ClusterError, match="has a server of polyencoders already"),
        deployed(cluster, Settings(index=folder, port=port)),
    ):
        pass
    with (
        pytest.raises(ClusterError, match=f"Ray Serve listens at 127.0.0.1:{port} on this cluster already"),
        deployed(cluster, Settings(index=folder, port=port + 1)),
    ):
        pass
    assert search(client)[0] == 200


def test_told_to_stop_it_leaves_nothing_behind(client, process):
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    until(idle)
    assert not shards()
