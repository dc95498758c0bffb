"""Thousands of changed bodies for each route that takes one, over connections that are kept."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from typing import Any

import httpx

import hostile_requests as attacks
from stage import MB, Stage, answers, still_well

CHANGES = ("/documents", "/documents/delete", "/reload")
"""Routes that change what is served: `malformed` has the first two."""
SHAPES = {
    "rank": [attacks.BODIES[path] for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/v1/ranking", "/v1/reranking")],
    "embed": [attacks.BODIES[path] for path in ("/v1/embeddings", "/embed", "/v2/embed", "/embed_all")],
    "score": [attacks.BODIES["/score"]],
    "explain": [{**attacks.BODIES["/search"], "documents": ["tea", "rain"], "compare": False}],
}
"""Bodies that the routes take that have a word in their name: what is sent decides, not the path."""
AT_ONCE = 8  # Connections
MOST = 60 * MB  # Memory that may be added after the first route: its allocator's, and what is kept of texts


def mutated(stage: Stage, seed: int, quick: bool, number: int | None = None) -> dict[str, Any]:
    """So many changed bodies for each route. The memory after the first route is compared with that at the end."""
    number = number or (20 if quick else 10_000)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    with stage.server("--index", stage.index(), "--cache-mb", "4") as server:
        before = answers(server)
        routes = _routes(server.url)
        footprint = None
        for path, bodies in routes.items():
            found, wrong = _send(server.port, path, bodies, number, seed)
            counts += found
            problems += wrong + [f"{path}: {one}" for one in still_well(server, before)]
            footprint = footprint or attacks.Footprint(server.pid)
        assert footprint is not None
        memory, files = footprint.grown()
    if memory > MOST or files > 3:
        problems.append(f"memory grew by {memory / MB:.0f} MB, {files} more files are open")
    return {
        "routes": len(routes),
        "bodies for each": number,
        "statuses": dict(sorted(counts.items())),
        "memory grown after the first route, MB": round(memory / MB, 1),
        "open files more": files,
        "problems": problems,
    }


def _routes(url: str) -> dict[str, list[dict[str, Any]]]:
    """The routes that take a body, by the server's own description, and bodies that each takes."""
    described = httpx.get(f"{url}/openapi.json", verify=False).json()["paths"]
    paths = [path for path, methods in described.items() if "post" in methods and path not in CHANGES]
    found = {path: next((SHAPES[name] for name in SHAPES if name in path), []) for path in paths}
    return {path: bodies or [attacks.BODIES[path]] for path, bodies in found.items()}


def _send(port: int, path: str, bodies: list[dict[str, Any]], number: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Send so many bodies; gives counts by status, and problems."""

    def some(first: int) -> tuple[Counter[str], list[str]]:
        counts: Counter[str] = Counter()
        problems = []
        with contextlib.closing(_Connection(port)) as connection:
            for turn in range(first, number, AT_ONCE):
                kind, data = _mutated(random.Random(f"{seed}-{path}-{turn}"), path, bodies, port)
                status, wrong = connection.ask(data)
                counts[status] += 1
                if wrong:
                    problems.append(f"{path}, {kind} (turn {turn}): {wrong}")
        return counts, problems

    total: Counter[str] = Counter()
    wrong = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for counts, problems in pool.map(some, range(AT_ONCE)):
            total += counts
            wrong += problems
    return total, wrong


def _mutated(draw: random.Random, path: str, bodies: list[dict[str, Any]], port: int) -> tuple[str, bytes]:
    """How one of the bodies that a path takes was changed, and the request."""
    kind, make = draw.choice(attacks.OF_BODIES)
    body = draw.choice(bodies)
    if draw.random() < 0.3:  # with fields of another one
        other = list(draw.choice(list(attacks.BODIES.values())).items())
        body = {**body, **dict(draw.sample(other, draw.randint(1, len(other))))}
    return kind, make(draw, path, json.dumps(body).encode(), port)


class _Connection:
    """A connection that is made again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, data: bytes) -> tuple[str, str | None]:
        """The status of an answer, and what is wrong with it."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        try:
            self._socket.sendall(data)
            answer = HTTPResponse(self._socket, method="POST")
            answer.begin()
            said = answer.read()
        except TimeoutError:
            self.close()
            return "no answer", "no answer within 30 s"
        except (OSError, HTTPException) as error:
            self.close()
            return "closed without an answer", f"closed without an answer: {error!r}"
        if answer.will_close:
            self.close()
        head = f"HTTP/1.1 {answer.status} \r\n{answer.headers}\r\n\r\n".encode("latin-1", "replace")
        return str(answer.status), attacks.problem_of(head + said) or _not_json(said)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _not_json(said: bytes) -> str | None:
    """What is wrong with an answer that should be JSON, without numbers that are none."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} in the answer")

    try:
        json.loads(said, parse_constant=refuse)
    except ValueError as error:
        return f"{error}: {said[:100]!r}"
    return None
