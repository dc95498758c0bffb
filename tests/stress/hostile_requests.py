"""Malformed requests, clients that misbehave, and what a server must not answer. Number and time are bounded."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

ALLOWED = (503, 507)
"""Statuses above 499 that may occur: too many connections, and a full disk."""
SECRETS = re.compile(rb"Traceback|site-packages|\.py\b|/tmp/|/home/|/root/|/usr/|/var/")
BODIES: dict[str, dict[str, Any]] = {
    "/rerank": {"query": "tea?", "texts": ["tea", "bread and rain"], "raw_scores": True},
    "/v1/rerank": {
        "query": ["tea?", "yes"],
        "documents": ["tea", {"a": "rain"}],
        "top_n": 1,
        "rank_fields": ["a"],
    },
    "/v2/rerank": {"query": "tea?", "documents": ["tea", "rain"], "top_n": 2, "return_documents": True},
    "/v1/embeddings": {"input": ["tea", "rain"], "encoding_format": "base64", "model": "m"},
    "/v1/ranking": {"query": {"text": "tea?"}, "passages": [{"text": "tea"}], "model": "m", "truncate": "END"},
    "/v1/reranking": {"query": "tea?", "input": ["tea", "rain"], "top_k": 1, "return_input": True},
    "/embed": {"inputs": ["tea", "rain"], "normalize": True, "truncate": False, "truncation_direction": "Left"},
    "/v2/embed": {"texts": ["tea"], "input_type": "search_document", "embedding_types": ["float", "base64"]},
    "/embed_all": {"inputs": "tea", "input_type": "query"},
    "/": {"inputs": {"source_sentence": "tea?", "sentences": ["tea", "rain"]}, "parameters": {}},
    "/similarity": {"inputs": {"source_sentence": "tea?", "sentences": ["tea", "rain"]}},
    "/predict": {"inputs": [["tea?", "tea"], ["tea?", "rain"]], "raw_scores": True},
    "/score": {"text_1": ["tea?"], "text_2": ["tea", "rain"], "model": "m", "max_tokens_per_doc": 3},
    "/tokenize": {"inputs": ["tea", "rain"], "add_special_tokens": False},
    "/vectors": {"text": "tea", "config": {"task_type": "passage"}, "dims": 0, "vector": None},
    "/search": {"query": "tea?", "k": 3, "where": "year > 1999", "mode": "fast", "share": 0.5},
    "/documents": {"documents": [{"text": "tea", "id": "odd", "year": 2000, "odd": "x"}]},
    "/documents/delete": {"ids": ["odd", "never"]},
}
PATHS = [
    *BODIES, "/health", "/ready", "/info", "/metrics", "/openapi.json", "/v1/models", "/v1/models/m", "/meta",
    "/documents/odd", "/no",
]  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 10**30, 1e308, -0.0, "", " ", "\x00", "\ud800", "x" * 100_000, [], {}, [[]], [None],
    {"": ""}, {"text": None}, [0] * 2000, ["a"] * 1001, "'", "' OR 1=1", "1; DROP TABLE documents",
    "year + " * 900 + "1",
    "NOT " * 500 + "true", "(" * 5000, "\u202e", "🎉" * 1000, "%s%n{0}${x}", "../../etc/passwd", "NaN",
]  # fmt: skip
ODD_NAMES = [
    "", "*", "\x00", "a\x00b", " ", "\n", ".", "a.b", "`", '"', "'", "\\", "_rowid", "_distance", "vector", "score",
    "ID", "\ud800", "🎉", "x" * 3000, "--", ";", "/*", "select", "0", "a`b", "\u202e", "{", "$1", "%s",
]  # fmt: skip
ODD_PATHS = [
    "/documents/../..", "/documents/..%2f..%2fetc%2fpasswd", "/documents/%00", "/documents/%ff%fe", "/documents/", "//",
    "/documents/" + "a" * 5000, "/documents/" + "%2e%2e%2f" * 500, "/%2e%2e/%2e%2e", "/rerank/", "/RERANK",
    "/rerank%20",
    "/;a=b", "/?" + "a=b&" * 2000, "/health?x=%00", "*", "http://evil.example/health",
    "/documents/a%0d%0aSet-Cookie:x",
    "/v1//rerank", "/.git/config", "/documents/\u00fc".encode().decode("latin-1"), "/a b", "/health#x", "",
]  # fmt: skip
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO", "get", "A" * 300]
ODD_HEADERS = [
    "Host: evil.example", "Host: [", "Host: localhost:99999999999", "Host: \xff", "Host: a\r\nHost: b",
    "Origin: http://[",
    "Origin: null", "Origin: \xff", "Origin: https://evil.example", "Authorization: Basic \xff",
    "Authorization: Basic ====",
    "Authorization:", "X-Forwarded-For: [", "X-Forwarded-For: " + "1.1.1.1," * 900, "X-Forwarded-Proto: \xff",
    "X-Request-Id: " + "x" * 9000, "X-Request-Id: <script>", "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings", "Expect: 100-continue", "Expect: banana", "Range: bytes=0-",
    "Accept: \xff", "A: " + "x" * 70_000, "\r\n".join(f"H{n}: x" for n in range(900)), "No colon", ": empty",
    "A\x00: b",
    "A : b", "A: b\x00", " folded", "Content-Length: -1", "Content-Length: abc", "Content-Length: " + "9" * 5000,
    "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 1, 1", "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: \x0bchunked", "Content-Length: 3\r\nTransfer-Encoding: chunked", "Content-Encoding: gzip",
    "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Type: multipart/form-data",
    "Content-Type: application/json; charset=utf-16", "Content-Type: \xff", "Content-Type:", "Cookie: " + "a=b;" * 9000,
]  # fmt: skip
CHUNKED = [
    b"zz\r\nabc\r\n0\r\n\r\n", b"-1\r\nabc\r\n", b"f" * 30 + b"\r\nabc", b"3\r\nabcdef\r\n0\r\n\r\n", b"3\nabc\n0\n\n",
    b"3;" + b"x" * 70_000 + b"\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc", b"\r\n", b"",
    b"1\r\n{\r\n" * 5000 + b"0\r\n\r\n", b"0\r\nTrailer: " + b"x" * 70_000 + b"\r\n\r\n",
]  # fmt: skip
NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", b"\r\n\r\n\r\n", b"\x00" * 5000, b"GET", b"GET  /  HTTP/1.1\r\n\r\n",
    b"SSH-2.0-x\r\n", b"GET /health HTTP/1.0\r\n\r\n", b"\xff" * 70_000, b"GET /health HTTP/1.1\r\n\r\n", b"{}",
]  # fmt: skip


def request(
    path: str,
    body: bytes | None = None,
    method: str | None = None,
    headers: str = "",
    port: int = 0,
    length: bool = True,
) -> bytes:
    """The bytes of a request."""
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {path} HTTP/1.1"]
    if "host:" not in headers.lower():
        lines.append(f"Host: 127.0.0.1:{port}")
    if body is not None and "content-type:" not in headers.lower():
        lines.append("Content-Type: application/json")
    if body is not None and length:
        lines.append(f"Content-Length: {len(body)}")
    lines += [headers] if headers else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (body or b"")


def malformed(draw: random.Random, port: int) -> tuple[str, bytes]:
    """The kind of a wrong request, and its bytes."""
    kind, make = draw.choice(_KINDS)
    path = draw.choice([path for path in BODIES if path != "/documents/delete"] * 3 + ["/documents/delete"])
    return kind, make(draw, path, json.dumps(BODIES[path]).encode(), port)


def _wrong_value(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    """One value, anywhere in the body, is replaced."""
    content = json.loads(body)
    at: Any = content
    while True:
        key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if draw.random() < 0.5 or not isinstance(at[key], dict | list) or not at[key]:
            at[key] = draw.choice(ODD_VALUES)
            return request(path, json.dumps(content).encode(), port=port)
        at = at[key]


def _odd_name(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    """A document with metadata under an odd name. There are few names: each becomes a column of the index."""
    name = draw.choice(ODD_NAMES)
    document = {"text": "tea", "id": f"odd {draw.randrange(50)}", name: draw.choice([1, 2.5, "x", [1], None])}
    return request("/documents", json.dumps({"documents": [document]}).encode(), port=port)


def _odd_field(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    """A field that is not known, in a request that is strict or is not."""
    content = {**json.loads(body), draw.choice(ODD_NAMES): draw.choice(ODD_VALUES)}
    strict = draw.choice(["", "Prefer: handling=strict"])
    return request(path, json.dumps(content).encode(), headers=strict, port=port)


def _wrong_number(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    number = draw.choice(
        [b"NaN", b"-Infinity", b"1e999", b"9" * draw.randint(20, 6000), b"-" * 9, b"0x10", b"01", b"1."]
    )
    content = re.sub(rb"true|\b\d+\b|\"tea\?\"", lambda match: number if draw.random() < 0.7 else match[0], body)
    return request(path, content, port=port)


def _deep(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    opening = draw.choice([b"[", b'{"a":', b'[{"text":'])
    depth = draw.choice([20, 500, 5000, 100_000])
    where = draw.choice([b'{"query": ', b'{"documents": [{"text": "a", "odd": ', b'{"x": ', b""])
    return request(path, where + opening * depth + draw.choice([b"", b"1" + b"]" * depth]), port=port)


def _flipped(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    content = bytearray(body)
    for _ in range(draw.randint(1, 5)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return request(path, bytes(content), port=port)


def _odd_text(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    odd = draw.choice([rb"\ud800", rb"\u0000", rb"\udc00\ud800", b"\xc3\x28", b"\xed\xa0\x80", rb"\x", b"\x00", b"\n"])
    return request(
        path, body.replace(b"tea", odd, draw.randint(1, 3)).replace(b"odd", odd, draw.randint(0, 2)), port=port
    )


def _other_bytes(draw: random.Random, path: str, body: bytes, port: int) -> bytes:
    text = body.decode()
    contents = [
        b"", draw.randbytes(draw.randint(1, 2000)), gzip.compress(body), b"\xef\xbb\xbf" + body, text.encode("utf-16"),
        text.encode("utf-32"), body * 2, b"[" + body + b"]", b"null", b'"a"', body[:-1] + b"," + body[1:],
        b" " * 10_000,
    ]  # fmt: skip
    return request(path, draw.choice(contents), port=port)


Kind = tuple[str, Callable[[random.Random, str, bytes, int], bytes]]
OF_BODIES: list[Kind] = [
    ("truncated JSON", lambda draw, path, body, port: request(path, body[: draw.randrange(len(body))], port=port)),
    ("a wrong value", _wrong_value),
    ("a wrong value", _wrong_value),
    ("an odd field", _odd_field),
    ("not a number", _wrong_number),
    ("deep nesting", _deep),
    ("flipped bytes", _flipped),
    ("odd characters", _odd_text),
    ("other bytes", _other_bytes),
]
_KINDS: list[Kind] = [
    *OF_BODIES,
    ("an odd name", _odd_name),
    ("a wrong method", lambda draw, path, body, port: request(
        draw.choice(PATHS), draw.choice([None, body]), draw.choice(METHODS), port=port)),
    ("an odd path", lambda draw, path, body, port: request(
        draw.choice(ODD_PATHS), draw.choice([None, body]), draw.choice(["GET", "POST", "DELETE"]), port=port)),
    ("an odd header", lambda draw, path, body, port: request(
        path, body, headers=draw.choice(ODD_HEADERS), port=port, length=draw.random() < 0.5)),
    ("bad chunks", lambda draw, path, body, port: request(
        path, draw.choice(CHUNKED), headers="Transfer-Encoding: chunked", port=port, length=False)),
    ("a body cut short", lambda draw, path, body, port: request(path, body, port=port)[: -draw.randint(1, len(body))]),
    ("not HTTP", lambda draw, path, body, port: draw.choice(NOT_HTTP)),
]  # fmt: skip


def exchange(port: int, data: bytes, seconds: float = 30.0, close_writing: bool = True) -> bytes:
    """What a server answers to these bytes until it closes the connection."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            if close_writing:
                connection.shutdown(socket.SHUT_WR)
        except OSError:  # it has closed already
            pass
        try:
            while part := connection.recv(1 << 16):
                said += part
        except ConnectionError:
            pass
        except TimeoutError:
            return said + b"\nTIMEOUT"
    return said


def statuses(said: bytes) -> list[int]:
    """The statuses of the answers, without the provisional ones (1xx)."""
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]
    return [status for status in found if status >= 200]


def problem_of(said: bytes) -> str | None:
    """What is wrong with an answer: an error of the server, no end, or something that it must not reveal."""
    bad = [status for status in statuses(said) if status >= 500 and status not in ALLOWED]
    if bad:
        return f"{bad[0]}: {said[-200:]!r}"
    if said.endswith(b"\nTIMEOUT"):
        return f"neither answered nor closed: {said[:100]!r}"
    found = SECRETS.search(said)
    return f"it reveals {found[0]!r}: {said[-300:]!r}" if found else None


def send_malformed(port: int, number: int, seed: int, at_once: int = 8) -> tuple[Counter[str], list[str]]:
    """Send a number of malformed requests; gives counts by status, and problems."""
    counts: Counter[str] = Counter()
    problems: list[str] = []
    lock = threading.Lock()

    def one(turn: int) -> None:
        kind, data = malformed(random.Random(f"{seed}-{turn}"), port)
        try:
            said = exchange(port, data)
        except OSError as error:
            said, wrong = b"", f"no connection: {error}"
        else:
            wrong = problem_of(said)
        with lock:
            counts[str((statuses(said) or ["closed without an answer"])[0])] += 1
            if wrong:
                problems.append(f"{kind} (seed {seed}-{turn}): {wrong}")

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(number)))
    return counts, problems


def vanish(port: int, data: bytes, reset: bool) -> None:
    """Send, and close the connection without reading, with a reset or without."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(data)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def large_body(port: int, size: int, chunked: bool, path: str = "/rerank", headers: str = "") -> tuple[int, bytes]:
    """Send a body of `size` bytes until the server answers; gives the bytes that were sent, and the answer."""
    piece = b" " * 65_536
    head = request(path, b"", headers=headers or "X: x", port=port, length=False)[:-2]
    head += b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % size
    sent, said = 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head)
            while sent < size and not statuses(said):
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    said += connection.recv(65_536)
                connection.settimeout(30)
        with contextlib.suppress(OSError):
            while not said.endswith(b"}") and (part := connection.recv(65_536)):
                said += part
    return sent, said


def slow_clients(port: int, number: int, beginning: bytes, seconds: float) -> list[socket.socket]:
    """Clients that send the beginning of a request and then a byte a second; gives connections that were not closed."""
    connections = []
    for _ in range(number):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(beginning)
        connection.setblocking(False)
        connections.append(connection)
    ends = time.monotonic() + seconds
    while connections and time.monotonic() < ends:
        time.sleep(1)
        for connection in list(connections):
            try:
                connection.send(b"x")
                if connection.recv(65_536):
                    continue
                closed = True
            except BlockingIOError:
                closed = False
            except OSError:
                closed = True
            if closed:
                connections.remove(connection)
                connection.close()
    return connections


class Footprint:
    """Memory and open files of a process when this was made, to compare with later."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.files = self._process.num_fds()
        self.memory = self._process.memory_info().rss

    def grown(self, patience: float = 15.0, files: int = 3) -> tuple[int, int]:
        """Bytes and files that it has more than before, after connections have had time to end."""
        ends = time.monotonic() + patience
        while self._process.num_fds() > self.files + files and time.monotonic() < ends:
            time.sleep(0.1)
        return self._process.memory_info().rss - self.memory, self._process.num_fds() - self.files


class Peak:
    """By how many bytes the memory of a process has `grown` at most while a block runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._before = self._process.memory_info().rss
        self.grown = 0

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.grown = max(self.grown, self._process.memory_info().rss - self._before)
