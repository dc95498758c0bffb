"""Connections whose other end dawdles, stops half-way, goes away or sends what it was told not to."""

import contextlib
import json
import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from polyencoders.serving import connections
from polyencoders.serving.settings import Limits

ASK = {"query": "Any tea?", "texts": ["tea", "bread"], "raw_scores": True}


def request(path="/rerank", body=ASK, *headers, method="POST", version="1.1"):
    content = json.dumps(body).encode() if not isinstance(body, bytes) else body
    lines = [f"{method} {path} HTTP/{version}", "content-type: application/json", f"content-length: {len(content)}"]
    if not any(header.startswith("host:") for header in headers):
        lines.append("host: localhost")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def everything(connection):
    """What it says until it closes the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            said += part
    return said


def answer(connection):
    """Status and content of the next answer, without those that only say to go on."""
    file = connection.makefile("rb", buffering=0)
    while True:
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        if status >= 200:
            content = b""
            while len(content) < int(headers["content-length"]):
                content += file.read(int(headers["content-length"]) - len(content))
            return status, json.loads(content)


def until(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def open_connections(server):
    return len(server.server.server_state.connections)


@pytest.fixture
def server(reranking):
    """A server that other tests use as well; `opened` counts the connections of this test that are still open."""
    before = set(reranking.server.server_state.connections)
    return SimpleNamespace(**vars(reranking), opened=lambda: len(reranking.server.server_state.connections - before))


# -- the client stops sending, and reads -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("wait", [False, True])
def test_a_client_that_sends_no_more_gets_its_answer(server, version, wait):
    expected = server.client.post("/rerank", json=ASK).json()
    go = threading.Event()
    if wait:
        server.application.current._served.engine.worker.call(lambda: go.wait(10))
    with connected(server) as connection:
        connection.sendall(request(body={**ASK, "texts": [*ASK["texts"], "rain"]}, version=version))
        connection.shutdown(socket.SHUT_WR)
        if wait:
            until(lambda: server.application.api.state.limiter.inside == 1)
            time.sleep(3 * connections.PROBE_SECONDS)  # it is looked after, and is still there
            go.set()
        status, ranks = answer(connection)
        assert status == 200
        assert [one["index"] for one in ranks if one["index"] < 2] == [one["index"] for one in expected]
        assert everything(connection) == b""
    until(lambda: server.opened() <= 1)


def test_two_requests_at_once_and_then_no_more(server):
    with connected(server) as connection:
        connection.sendall(request() + request("/v1/models", b"", method="GET"))
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 200
        assert answer(connection)[1]["object"] == "list"
        assert everything(connection) == b""


@pytest.mark.parametrize("cut", [3, 30, 200])
def test_half_a_request_and_then_no_more(server, cut):
    with connected(server) as connection:
        connection.sendall(request()[:-cut])
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in everything(connection)
    until(lambda: server.application.api.state.limiter.inside == 0 and server.opened() == 0)


def test_a_client_that_has_gone_is_not_waited_for(server):
    go = threading.Event()
    server.application.current._served.engine.worker.call(lambda: go.wait(10))
    with connected(server) as connection:
        connection.sendall(request())
        until(lambda: server.application.api.state.limiter.inside == 1)
    until(lambda: server.application.api.state.limiter.inside == 0)  # while the model is busy still
    go.set()
    assert server.client.post("/rerank", json=ASK).status_code == 200


# -- refused, and then? ------------------------------------------------------------------------------------------------


def test_after_a_refusal_the_connection_serves_again(serve):
    server = serve(key="key", limits=Limits(documents=3, wait=10))
    good = request("/rerank", ASK, "authorization: Bearer key")
    refused = {
        401: request(),
        421: request("/rerank", ASK, "host: evil.example"),
        403: request("/rerank", ASK, "origin: null"),
        404: request("/no", ASK, "authorization: Bearer key"),
        405: request("/rerank", b"", "authorization: Bearer key", method="DELETE"),
        413: request("/rerank", {**ASK, "texts": ["a"] * 4}, "authorization: Bearer key"),
        400: request("/rerank", b"{", "authorization: Bearer key"),
    }
    with connected(server) as connection:
        for status, data in refused.items():
            for sent in ([data], [data[:-1], data[-1:]]):  # the body comes before the answer, or after it
                for part in sent:
                    connection.sendall(part)
                    time.sleep(0.02)
                assert answer(connection)[0] == status
                connection.sendall(good)
                assert answer(connection)[0] == 200


def test_one_that_waits_to_be_told_to_go_on_is_refused_before_it_sends(serve):
    server = serve(limits=Limits(body=1000))
    head = b"POST /rerank HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 100000000\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head)
        assert answer(connection)[0] == 413
    content = json.dumps(ASK).encode()
    with connected(server) as connection:
        connection.sendall(request()[: -len(content)].replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(content)
        assert answer(connection)[0] == 200


@pytest.mark.parametrize(("path", "host"), [("/rerank", "evil.example"), ("/health", "localhost")])
def test_a_body_that_nobody_wants_is_not_waited_for(server, monkeypatch, path, host):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with connected(server) as connection:
        connection.sendall(request(path, b"x" * 10_000, f"host: {host}")[:-9000])
        assert answer(connection)[0] in (421, 405)
        with contextlib.suppress(OSError):  # a byte now and then must not keep it open
            for _ in range(200):
                connection.sendall(b"x")
                time.sleep(0.02)
    until(lambda: server.opened() == 0)


def test_what_follows_a_refusal_may_be_no_http(server, caplog):
    with connected(server) as connection, caplog.at_level(logging.WARNING):
        connection.sendall(b"POST /rerank HTTP/1.1\r\nhost: evil.example\r\ntransfer-encoding: chunked\r\n\r\n")
        assert answer(connection)[0] == 421
        connection.sendall(b"no chunk\r\n\r\n")
        assert everything(connection) == b""
    assert not [record for record in caplog.records if record.exc_info], "asyncio logs what a protocol raises"


def test_who_still_sends_can_read_that_it_is_too_much(serve):
    server = serve(limits=Limits(body=100_000))
    for head in (b"content-length: 30000000", b"transfer-encoding: chunked"):
        with connected(server) as connection:
            connection.sendall(b"POST /rerank HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n")
            piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            for _ in range(100):  # more than its system keeps for it: all of that is read before it closes
                connection.sendall(piece)
            assert answer(connection)[0] == 413
    until(lambda: open_connections(server) == 0)


def test_all_bodies_together_have_a_limit(serve):
    server = serve(limits=Limits(body=1000, bodies=1500))
    with contextlib.ExitStack() as stack:
        begun = [stack.enter_context(connected(server)) for _ in range(2)]
        for connection in begun:
            connection.sendall(request(body=b" " * 1000)[:-10])
            time.sleep(0.1)
        assert answer(begun[1])[0] == 429
    until(lambda: server.application.api.state.limiter._held == 0)
    assert server.client.post("/rerank", json=ASK).status_code == 200


# -- slow --------------------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(connections, "READ_SECONDS", 0.3)
    large = {"input": ["tea"] * 1000}
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(request("/v1/embeddings", large))
        until(lambda: server.opened() == 0)
    assert server.application.api.state.limiter.inside == 0


def test_a_client_that_reads_slowly_is(server, monkeypatch):
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request("/v1/embeddings", {"input": [f"tea {n}" for n in range(1000)]}, "connection: close"))
        said = b""
        while part := connection.recv(16_384):
            said += part
            time.sleep(0.02)
    assert len(json.loads(said.partition(b"\r\n\r\n")[2])["data"]) == 1000


def test_silent_connections_make_room(server, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS", 5)
    with contextlib.ExitStack() as stack:
        for turn in range(20):
            silent = stack.enter_context(connected(server))
            if turn % 2:
                silent.sendall(b"POST /rerank HTTP/1.1\r\nx: ")
        with connected(server) as connection:
            connection.sendall(request())
            assert answer(connection)[0] == 200
        until(lambda: open_connections(server) <= 5)


def test_many_that_come_at_once_make_room_for_each_other(server, monkeypatch):
    """All are accepted before the first of those that must go is gone."""
    monkeypatch.setattr(connections, "CONNECTIONS", 5)
    monkeypatch.setattr(connections, "HEADER_SECONDS", 60)
    loop, blocked, go = server.server.servers[0].get_loop(), threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (blocked.set(), go.wait(10)))
    assert blocked.wait(10)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connected(server))
        go.set()
        until(lambda: open_connections(server) == 5)


def test_when_all_are_at_work_another_is_told_to_come_back(server, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS", 2)
    go = threading.Event()
    server.application.current._served.engine.worker.call(lambda: go.wait(10))
    with contextlib.ExitStack() as stack:
        working = [stack.enter_context(connected(server)) for _ in range(2)]
        for connection in working:
            connection.sendall(request())
        until(lambda: server.application.api.state.limiter.inside == 2)
        with connected(server) as another:
            said = everything(another)
            assert said.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in said
        go.set()
        assert [answer(connection)[0] for connection in working] == [200, 200]


def test_vanishing_clients_leave_nothing_behind(server):
    import psutil

    server.client.post("/rerank", json=ASK)
    files = psutil.Process().num_fds()
    for number in range(100):
        with connected(server) as connection:
            connection.sendall(request()[: number * 3])
    until(lambda: server.opened() <= 1 and psutil.Process().num_fds() <= files)
    until(lambda: server.application.api.state.limiter.inside == 0)
