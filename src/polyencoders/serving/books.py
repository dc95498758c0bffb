"""The books of a server: Prometheus figures, and a line of JSON for every request. Never a text of anybody's.

Knows ASGI and batches; nothing of models or indexes but their sizes.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from polyencoders.serving.batching import Lane
from polyencoders.serving.gate import App, Gate, Message, Receive, Scope, Send
from polyencoders.serving.served import Current

logger = logging.getLogger("polyencoders.access")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of when it was begun
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_REQUEST_ID = re.compile(r"[\w.-]{1,100}")


class Books:
    """What is counted, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"namespace": "polyencoders", "registry": self.registry}
        self._requests = Counter("requests", "Requests answered.", ("route", "status"), **made)
        self._seconds = Histogram(
            "request_seconds", "From a request to its answer.", ("route",), buckets=_SECONDS, **made
        )
        self._texts = Counter("texts", "Texts (or pairs) that the model read, by kind of batch.", ("lane",), **made)
        self._batch_texts = Histogram("batch_texts", "Texts of a batch.", ("lane",), buckets=_BATCHES, **made)
        self._batch_seconds = Histogram("batch_seconds", "Of a batch.", ("lane",), buckets=_SECONDS, **made)
        self._gauges = {
            name: Gauge(name, what, **made)
            for name, what in {
                "requests_in_progress": "Requests in progress.",
                "backlog_seconds": "Seconds of work that wait for the model.",
                "document_cache_vectors": "Document vectors in memory.",
                "document_cache_bytes": "Bytes of them.",
                "document_cache_hits": "Documents whose vectors were there when they were to be encoded.",
                "document_cache_misses": "Documents that were encoded.",
                "index_documents": "Documents that are searched.",
                "index_whole": "1, or 0 while a machine that holds a share of the index is lost.",
                "index_version": "The version of the index that is searched.",
                "generation": "How many times the model was loaded.",
            }.items()
        }

    def batch(self, lane: Lane, texts: int, seconds: float) -> None:
        """The model has worked off a batch."""
        kind = {"short": "queries", "long": "documents"}[lane]
        self._texts.labels(kind).inc(texts)
        self._batch_texts.labels(kind).observe(texts)
        self._batch_seconds.labels(kind).observe(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, current: Current, gate: Gate) -> bytes:
        """All of it, as Prometheus reads it."""
        with current.use() as served:
            values: dict[str, float] = {
                "requests_in_progress": gate.inside,
                "backlog_seconds": served.engine.worker.backlog,
                "generation": current.generation,
            }
            if (cache := served.engine.cache) is not None:
                values |= {
                    "document_cache_vectors": len(cache),
                    "document_cache_bytes": cache.nbytes,
                    "document_cache_hits": cache.hits,
                    "document_cache_misses": cache.misses,
                }
            if served.library is not None:
                values |= {
                    "index_documents": len(served.library),
                    "index_version": served.library.version,
                    "index_whole": served.library.whole,
                }
        for name, value in values.items():
            self._gauges[name].set(value)
        return bytes(generate_latest(self.registry))


class Bookkeeper:
    """ASGI middleware: gives every request an id, and writes it into the books and the log."""

    def __init__(self, app: App, books: Books) -> None:
        self.app, self._books = app, books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            # Paths that clients make up must not become as many time series.
            route = getattr(scope.get("route"), "path", None) or ("page" if status == 200 else "other")
            self._books.request(route, status or 499, seconds)  # 499: the client went away
            logger.info(
                "request",
                extra={
                    "id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status or 499,
                    "ms": round(1000 * seconds, 1),
                    "client": (scope.get("client") or ("", 0))[0],
                },
            )
