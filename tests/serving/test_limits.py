"""Who is let in, and with how much; and clients that do not behave."""

import base64
import gzip
import hmac
import json
import re
import socket
import threading
import time
import zlib

import httpx
import pytest

from polyencoders.errors import DataError
from polyencoders.serving import connections, limits
from polyencoders.serving.keys import read_keys
from polyencoders.serving.settings import Key, Limits, Settings

ASK = {"query": "Any tea?", "texts": ["tea", "bread"]}
JSON = {"content-type": "application/json"}


def raw(port, data, *, close_writing=False, seconds=10):
    """What a server says to these bytes until it hangs up, or for so long."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        if close_writing:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except (TimeoutError, ConnectionResetError):
            pass
        return said


# -- the key -----------------------------------------------------------------------------------------------------------


def test_without_the_key_nothing_but_health_answers(locked):
    document = locked.client.get("/openapi.json", headers={"authorization": "Bearer a-secret"}).json()
    asked = [(method, path) for path, methods in document["paths"].items() for method in methods]
    assert len(asked) > 10
    for method, path in [*asked, ("get", "/"), ("get", "/openapi.json"), ("get", "/nowhere"), ("get", "/page.json")]:
        answer = locked.client.request(method, path)
        expected = 200 if path in ("/health", "/ready") else 401
        assert answer.status_code == expected, path
    for wrong in ("", "Bearer", "Bearer wrong", "a-secret", "Basic !", "Basic " + base64.b64encode(b"\xff:x").decode()):
        assert locked.client.post("/rerank", json=ASK, headers={"authorization": wrong}).status_code == 401


def test_the_key_as_clients_send_it(serve):
    server = serve(key="schlüssel")
    basic = base64.b64encode("anybody:schlüssel".encode()).decode()
    for headers in ({"authorization": "bearer schlüssel".encode()}, {"authorization": f"Basic {basic}"}):
        assert server.client.post("/rerank", json=ASK, headers=headers).status_code == 200
    assert server.client.post("/rerank", json=ASK, headers={"x-api-key": "schlüssel".encode()}).status_code == 200


# -- browsers ----------------------------------------------------------------------------------------------------------


def test_a_page_elsewhere_cannot_ask(reranking, serve):
    post = reranking.client.post
    assert post("/rerank", json=ASK, headers={"host": "evil.example"}).status_code == 421
    assert post("/rerank", json=ASK, headers={"origin": "https://evil.example"}).status_code == 403
    assert post("/rerank", content=json.dumps(ASK), headers={"content-type": "text/plain"}).status_code == 415
    assert post("/rerank", json=ASK, headers={"origin": reranking.url}).status_code == 200
    named = serve(hosts=("search.example",))
    assert named.client.post("/rerank", json=ASK, headers={"host": "search.example:80"}).status_code == 200
    assert named.client.post("/rerank", json=ASK, headers={"host": "evil.example"}).status_code == 421


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large(serve, chunked):
    server = serve(limits=Limits(body=10_000))
    content = (b" " * 1000 for _ in range(50)) if chunked else b" " * 50_000
    try:
        answer = server.client.post("/v2/rerank", content=content, headers=JSON)
        assert answer.status_code == 413
        assert "10,000" in answer.json()["message"]
    except (httpx.WriteError, httpx.ReadError):  # it hung up before all was sent
        pass
    assert server.client.post("/rerank", json=ASK).status_code == 200


def test_a_body_too_slow(serve):
    server = serve(limits=Limits(body_seconds=0.3))
    head = b"POST /rerank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    said = raw(server.port, head)
    assert said.startswith(b"HTTP/1.1 408")
    assert server.client.post("/rerank", json=ASK).status_code == 200


@pytest.mark.parametrize(
    "beginning", [b"", b"POST /rerank HT", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea"]
)
def test_headers_too_slow(reranking, monkeypatch, beginning):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    started = time.monotonic()
    raw(reranking.port, beginning)
    assert time.monotonic() - started < 8


def test_a_connection_closed_on_one_side_or_both(reranking):
    body = json.dumps(ASK).encode()
    head = f"POST /rerank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body
    for data in (request, request[:-5], head.encode(), b"\r\n", b"\x00\xff" * 100):
        raw(reranking.port, data, close_writing=True)
    assert reranking.client.post("/rerank", json=ASK).status_code == 200
    deadline = time.time() + 5
    while reranking.application.api.state.limiter.inside and time.time() < deadline:
        time.sleep(0.01)
    assert reranking.application.api.state.limiter.inside == 0, "nobody is waited for who has gone"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\xfa",
        b'{"query": "\xc3\x28", "texts": ["a"]}',
        b'{"query": "a", "texts": ["a"], "x": ' + b"[" * 100_000,
        b'{"query": "a", "texts": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"query": "a", "k": NaN, "texts": [NaN], "documents": [NaN], "ids": [NaN], "input": [Infinity]}',
        b'{"query": NaN, "documents": ["a"]}',
        b'{"query": ' + b"9" * 5_000 + b', "texts": ["a"]}',
        b'[{"query": "a"}]',
        b"null",
    ],
    ids=range(11),
)
def test_what_is_no_json_or_none_of_ours(shared_searching, content):
    for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/search", "/documents", "/documents/delete", "/v1/embeddings"):
        answer = shared_searching.client.post(path, content=content, headers=JSON)
        assert answer.status_code in (400, 422), (path, answer.text)
        answer.json()


def test_numbers_that_are_none_do_not_enter_the_index(shared_searching):
    for value in (b"NaN", b"-Infinity", b"1e999", b"[1, [NaN]]"):
        content = b'{"documents": [{"text": "a", "n": ' + value + b"}]}"
        assert shared_searching.client.post("/documents", content=content, headers=JSON).status_code == 422
    deep = b'{"documents": [{"text": "a", "n": ' + b"[" * 50 + b"]" * 50 + b"}]}"
    assert shared_searching.client.post("/documents", content=deep, headers=JSON).status_code == 422


# -- how many ----------------------------------------------------------------------------------------------------------


def test_more_requests_than_can_be_taken_are_told_to_come_back(serve):
    server = serve(limits=Limits(requests=2))
    engine = server.application.current._served.engine
    go = threading.Event()
    engine.worker.call(lambda: go.wait(10))
    waiting = [threading.Thread(target=server.client.post, args=("/rerank",), kwargs={"json": ASK}) for _ in range(2)]
    for thread in waiting:
        thread.start()
    limiter = server.application.api.state.limiter
    while limiter.inside < 2:
        time.sleep(0.01)
    answer = server.client.post("/v2/rerank", json={"query": "a", "documents": ["b"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "come back" in answer.json()["message"]
    assert server.client.get("/health").status_code == 200
    go.set()
    for thread in waiting:
        thread.join()
    assert server.client.post("/rerank", json=ASK).status_code == 200


def test_bodies_that_do_not_arrive_keep_nobody_out(serve, tmp_path):
    (tmp_path / "keys.yaml").write_text("search: {key: one}\nbatch: {key: two, requests: 1}\n")
    server = serve(keys=read_keys(tmp_path / "keys.yaml"), limits=Limits(requests=2, body_seconds=60))
    limiter = server.application.api.state.limiter
    batch = limiter._keys._askers[1]
    head = b"POST /rerank HTTP/1.1\r\nhost: localhost\r\nx-api-key: two\r\n"
    head += b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    most = limits.ARRIVING
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(most)]
    try:
        for connection in idle:
            connection.sendall(head)
        while batch.arriving < most:
            time.sleep(0.01)
        assert limiter.inside == 0
        assert server.client.post("/rerank", json=ASK, headers={"x-api-key": "one"}).status_code == 200
        refused = server.client.post("/rerank", json=ASK, headers={"x-api-key": "two"})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert f"{most} bodies of this key are arriving" in refused.json()["message"]
    finally:
        for connection in idle:
            connection.close()
    while batch.arriving:
        time.sleep(0.01)
    assert server.client.post("/rerank", json=ASK, headers={"x-api-key": "two"}).status_code == 200


def test_a_key_for_bodies_that_never_fit_is_refused_at_the_start():
    key = Key("big", "secret", {"body": 2_001})
    with pytest.raises(DataError, match=r"key of 'big' may send a body of 2,001 bytes, .* may have 2,000: give it"):
        Settings(model="x", keys=(key,), limits=Limits(body=1_000, bodies=2_000))
    assert Settings(model="x", keys=(key,), limits=Limits(body=1_000, bodies=2_001)).keys == (key,)


def test_more_work_than_can_be_done_soon_is_told_to_come_back(serve):
    server = serve(limits=Limits(wait=2))
    worker = server.application.current._served.engine.worker
    go = threading.Event()
    worker.call(lambda: go.wait(10))
    worker._lanes["long"].pace = 1e-2
    first = threading.Thread(
        target=server.client.post, args=("/rerank",), kwargs={"json": {**ASK, "texts": ["tea " * 98]}}
    )
    first.start()  # it takes a second
    while not worker.backlog > 0.9:
        time.sleep(0.01)
    for path in ("/rerank", "/v1/embeddings"):
        texts = [f"bread {number} " * 30 for number in range(2)]
        answer = server.client.post(
            path, json={"query": "a", "texts": texts} if path == "/rerank" else {"input": texts}
        )
        assert (answer.status_code, answer.json()["error_type"]) == (429, "Overloaded")
        assert int(answer.headers["retry-after"]) >= 1
    go.set()
    first.join()


def test_what_cannot_be_done_in_time_is_refused_also_alone(serve):
    server = serve(limits=Limits(wait=2))
    server.application.current._served.engine.worker._lanes["long"].pace = 1.0
    answer = server.client.post("/v1/rerank", json={"query": "a", "documents": ["tea and bread"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "this takes about 5 s" in answer.json()["message"]
    assert "--max-wait" in answer.json()["message"]


def test_a_client_that_goes_away_is_not_worked_for(serve):
    server = serve()
    worker = server.application.current._served.engine.worker
    go = threading.Event()
    worker.call(lambda: go.wait(10))
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/rerank", json={**ASK, "texts": [f"tea {number}" for number in range(500)]}, timeout=0.3)
    deadline = time.time() + 5
    while server.application.api.state.limiter.inside and time.time() < deadline:
        time.sleep(0.01)
    assert server.application.api.state.limiter.inside == 0
    go.set()
    worker.call(lambda: None).result(10)
    assert server.client.post("/rerank", json=ASK).status_code == 200
    assert len(server.application.current._served.engine.cache) < 100, "most of the 500 were left"


# -- and more of who is let in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT"])
def test_without_the_key_no_method_tells_what_there_is(locked, method):
    for path in (
        "/rerank",
        "/documents/r1",
        "/metrics",
        "/openapi.json",
        "/reload",
        "/nowhere",
        "/health/",
        "//health",
    ):
        assert locked.client.request(method, path).status_code == 401, path
    assert locked.client.request(method, "/health").status_code == 405


def test_keys_are_compared_in_constant_time(serve, monkeypatch):
    from polyencoders.serving import keys

    compared = []
    monkeypatch.setattr(
        keys.hmac,
        "compare_digest",
        lambda given, key, real=hmac.compare_digest: compared.append(key) or real(given, key),
    )
    server = serve(key="right")
    for given in ("right", "wrong", "r"):
        server.client.get("/v1/models", headers={"authorization": f"Bearer {given}"})
    assert compared == [b"right"] * 3


def test_a_key_that_is_no_utf8(serve):
    key = b"k\xff\xfey".decode("utf-8", "surrogateescape")  # as the environment gives it
    server = serve(key=key)
    assert server.client.get("/v1/models", headers={"authorization": b"Bearer k\xff\xfey"}).status_code == 200
    assert server.client.get("/v1/models", headers={"authorization": "Bearer k"}).status_code == 401


@pytest.mark.parametrize(
    "origin", ["null", "http://[", "://", "\xff", "http://localhost.evil.example", "localhost", ""]
)
def test_origins_that_are_none_of_ours(reranking, origin):
    answer = reranking.client.post("/rerank", json=ASK, headers={"origin": origin.encode("latin-1")})
    assert answer.status_code == 403


def test_hosts_in_capitals(serve):
    server = serve(hosts=("Search.Example",))
    headers = {"host": "SEARCH.example:80", "origin": "https://search.example:80"}
    assert server.client.post("/rerank", json=ASK, headers=headers).status_code == 200


def test_by_default_it_listens_on_this_machine_alone(reranking):
    from polyencoders.serving.run import bound
    from polyencoders.serving.settings import Settings

    with bound(Settings(port=0)) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
    (listening,) = reranking.server.servers
    assert [one.getsockname()[0] for one in listening.sockets] == ["127.0.0.1"]


def test_the_backlog_never_exceeds_what_may_wait(serve, monkeypatch):
    from polyencoders.serving import batching

    wait, seen, put = 0.05, [], batching._Lane.put
    server = serve(limits=Limits(wait=wait))
    worker = server.application.current._served.engine.worker

    def noting(lane, job):  # called with the lock held: nothing changes meanwhile
        put(lane, job)
        seen.append(worker.backlog)

    monkeypatch.setattr(batching._Lane, "put", noting)
    statuses = []

    def ask(number):
        texts = [f"{number} {place} " + "bread " * 5 for place in range(40)]
        answer = httpx.post(f"{server.url}/rerank", json={"query": "tea", "texts": texts}, timeout=60, verify=False)
        statuses.append(answer.status_code)
        assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(statuses) <= {200, 429}
    assert len(statuses) == 40
    assert max(seen) <= wait + 1e-9
    # Of a request whose documents were refused, the query may still be at work.
    end = time.monotonic() + 30
    while worker.backlog and time.monotonic() < end:
        time.sleep(0.01)
    assert worker.backlog == 0


def test_a_million_wrong_items_are_one_complaint(shared_searching):
    for path, name in (
        ("/rerank", "texts"),
        ("/v1/rerank", "documents"),
        ("/documents", "documents"),
        ("/search", "query"),
    ):
        content = b'{"query": "a", "%s": [%s0]}' % (name.encode(), b"0," * 1_000_000)
        answer = shared_searching.client.post(path, content=content, headers=JSON)
        assert answer.status_code == 422
        assert len(answer.json()["detail"]) < 100


# -- what clients send -------------------------------------------------------------------------------------------------


def test_compressed_bodies_are_read(reranking, serve):
    body = json.dumps(ASK).encode()
    expected = reranking.client.post("/rerank", json=ASK).json()
    for name, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        headers = {**JSON, "content-encoding": name}
        assert reranking.client.post("/rerank", content=packed, headers=headers).json() == expected
    for name, packed, status, says in (
        ("gzip", body, 400, "not gzip"),
        ("gzip", gzip.compress(body)[:-9], 400, "ends in the middle"),
        ("gzip", gzip.compress(body) + gzip.compress(b" "), 400, "goes on after the end of its gzip"),
        ("br", body, 415, "send gzip"),
        ("gzip", gzip.compress(b" " * 9_000_000), 413, "8,000,000 bytes when unpacked"),
    ):
        answer = reranking.client.post("/rerank", content=packed, headers={**JSON, "content-encoding": name})
        assert (answer.status_code, says in answer.json()["message"]) == (status, True), answer.text
    assert reranking.application.api.state.limiter._held == 0


def test_errors_say_what_to_change(reranking):
    def said(method, path, **sent):
        answer = reranking.client.request(method, path, **sent)
        return answer.status_code, answer.json()["message"]

    assert said("POST", "/rerank", content=b"{nope", headers=JSON)[0] == 400
    assert "not JSON, at character 1" in said("POST", "/rerank", content=b"{nope", headers=JSON)[1]
    curl = {"content-type": "application/x-www-form-urlencoded"}
    assert said("POST", "/rerank", content=json.dumps(ASK), headers=curl)[0] == 415
    assert "Content-Type: application/json" in said("POST", "/rerank", content=json.dumps(ASK), headers=curl)[1]
    assert reranking.client.post("/rerank", content=json.dumps(ASK)).status_code == 200, "no type is taken for JSON"
    assert said("POST", "/v1/v2/rerank", json={}) == (
        404,
        "nothing is at /v1/v2/rerank, but at /v2/rerank: take '/v1' off the end of the client's base URL",
    )
    assert "but at /v1/ranking: end the client's base URL with '/v1'" in said("POST", "/ranking", json={})[1]
    assert "ranks, embeds and searches" in said("POST", "/v1/chat/completions", json={})[1]
    assert said("GET", "/v1/rerank") == (405, "/v1/rerank does not take GET, but POST")
    assert said("POST", "/v1/rerank", json=[1])[1].startswith("the body: ")


def test_head_is_get_without_a_body(reranking):
    for path in ("/health", "/ready", "/info", "/v1/models", "/openapi.json", "/.well-known/ready", "/meta"):
        answer = reranking.client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
        assert int(answer.headers["content-length"]) == len(reranking.client.get(path).content)


# -- pages of other sites ----------------------------------------------------------------------------------------------


def test_pages_that_may_ask(serve):
    server = serve(origins=("http://127.0.0.1:3000", "https://search.example"), key="a-secret")
    preflight = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    for origin in ("http://localhost:3000", "http://127.0.0.1:3000", "http://0.0.0.0:3000", "https://search.example"):
        answer = server.client.options("/v1/rerank", headers={"origin": origin, **preflight})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        asked = {"origin": origin, "authorization": "Bearer a-secret"}
        answer = server.client.post("/rerank", json=ASK, headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        wrong = server.client.post("/rerank", json=ASK, headers={"origin": origin})
        assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (401, origin), "a page can read why"
    for origin in ("http://localhost:3001", "http://search.example", "null", "https://search.example.evil.example"):
        answer = server.client.options("/v1/rerank", headers={"origin": origin, **preflight})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        assert "--allow-origin" in answer.json()["message"]


def test_this_machine_has_several_names(reranking):
    for name in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]"):
        headers = {"host": f"{name}:{reranking.port}", "origin": f"http://localhost:{reranking.port}"}
        assert reranking.client.post("/rerank", json=ASK, headers=headers).status_code == 200, name


# -- several keys ------------------------------------------------------------------------------------------------------


def test_each_key_has_limits_of_its_own(serve, tmp_path):
    (tmp_path / "keys.yaml").write_text("search: {key: one}\nbatch: {key: two, documents: 2, requests: 1}\n")
    server = serve(keys=read_keys(tmp_path / "keys.yaml"), limits=Limits(documents=3))

    def status(key, texts):
        asked = {"query": "tea", "texts": ["tea"] * texts}
        return server.client.post("/rerank", json=asked, headers={"x-api-key": key}).status_code

    assert [status("one", 3), status("one", 4), status("two", 2), status("two", 3)] == [200, 413, 200, 413]
    assert status("three", 1) == status("", 1) == 401
    figures = server.client.get("/metrics", headers={"x-api-key": "one"}).text
    assert 'polyencoders_requests_by_key_total{key="batch",status="413"} 1.0' in figures
    go = threading.Event()
    server.application.current._served.engine.worker.call(lambda: go.wait(10))
    waiting = threading.Thread(target=status, args=("two", 1))
    waiting.start()
    while server.application.api.state.limiter.inside < 1:
        time.sleep(0.01)
    assert status("two", 1) == 429, "the other key is not in its way"
    assert server.client.get("/v1/models", headers={"x-api-key": "one"}).status_code == 200
    go.set()
    waiting.join()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "expected names"),
        ("- a", "expected names"),
        ("a: secret", "a: expected `key: SECRET`"),
        ("a: {key: 7}", "a: expected `key: SECRET`"),
        ("a: {key: x, wait: 3}", "there is no limit 'wait'"),
        ("a: {key: x, requests: 0}", "requests: expected a whole number"),
        ("a: {key: x}\nb: {key: x}", "the same key"),
        ("a: {", "cannot be read"),
        ("a: {key: the-secret\nb: [", "line 2: cannot be read as YAML"),
    ],
)
def test_a_file_of_keys_that_is_wrong(tmp_path, content, says):
    (tmp_path / "keys.yaml").write_text(content)
    with pytest.raises(DataError, match=re.escape(says)) as raised:
        read_keys(tmp_path / "keys.yaml")
    assert "secret" not in str(raised.value).replace(str(tmp_path), "").replace("`search: {key: a-secret}`", "")
