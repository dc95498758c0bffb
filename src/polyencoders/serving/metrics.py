"""Prometheus figures, and a line of JSON in the log for every request. Neither contains any text of a client."""

import logging
import re
import time
import uuid
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyencoders.serving.batching import Lane
from polyencoders.serving.limits import Limiter
from polyencoders.serving.loaded import Current
from polyencoders.serving.notes import written_in
from polyencoders.serving.traces import request_span

logger = logging.getLogger("polyencoders.access")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series of each, with the time it began
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_REQUEST_ID = re.compile(r"[\w.-]{1,100}")
_GAUGES = {
    "requests_in_progress": "Requests in progress.",
    "backlog_seconds": "Seconds of work that wait for the model.",
    "document_cache_vectors": "Document vectors in memory.",
    "document_cache_bytes": "Bytes of them.",
    "document_cache_hits": "Documents whose vectors were there when they were to be encoded.",
    "document_cache_misses": "Documents that were encoded.",
    "index_documents": "Documents that are searched.",
    "index_whole": "1, or 0 while a machine that holds a slice of the index is lost.",
    "index_version": "The version of the index that is searched.",
    "generation": "How many times the model was loaded.",
}


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"namespace": "polyencoders", "registry": self.registry}
        timed = {**made, "buckets": _SECONDS}
        self._requests = Counter("requests", "Requests answered.", ("route", "status"), **made)
        self._by_key = Counter(
            "requests_by_key", "Requests answered, by the name of the key.", ("key", "status"), **made
        )
        self._seconds = Histogram("request_seconds", "From a request to its answer.", ("route",), **timed)
        self._texts = Counter("texts", "Texts (or pairs) that the model read, by kind of batch.", ("lane",), **made)
        self._batch_texts = Histogram("batch_texts", "Texts of a batch.", ("lane",), buckets=_BATCHES, **made)
        self._batch_seconds = Histogram("batch_seconds", "Of a batch.", ("lane",), **timed)
        self._gauges = {name: Gauge(name, what, **made) for name, what in _GAUGES.items()}

    def batch(self, lane: Lane, texts: int, seconds: float) -> None:
        """Count a batch that the model has done."""
        kind = {"short": "queries", "long": "documents"}[lane]
        self._texts.labels(kind).inc(texts)
        self._batch_texts.labels(kind).observe(texts)
        self._batch_seconds.labels(kind).observe(seconds)

    def request(self, route: str, status: int, seconds: float, key: str = "") -> None:
        """Count a request that was answered."""
        if key:
            self._by_key.labels(key, str(status)).inc()
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, current: Current, limiter: Limiter) -> bytes:
        """Return all figures in Prometheus' format."""
        with current.use() as served:
            values: dict[str, float] = {
                "requests_in_progress": limiter.inside,
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
                index = served.library.index
                values |= {
                    "index_documents": len(index),
                    "index_version": index.version,
                    "index_whole": index.whole,
                }
        for name, value in values.items():
            self._gauges[name].set(value)
        return bytes(generate_latest(self.registry))


class RequestLog:
    """ASGI middleware: gives every request an id, counts it, and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                headers.append("x-request-id", request_id)
                if notes := written_in(scope):
                    headers.append("x-notes", notes)
            await send(message)

        with request_span(scope) as about:
            try:
                await self.app(scope, receive, noted)
            finally:
                seconds = time.perf_counter() - started
                # Paths that clients make up must not become as many time series.
                route = getattr(scope.get("route"), "path", None) or ("page" if status == 200 else "other")
                status = status or 499  # the client went away
                about.update(route=route, status=status)
                self._say(scope, request_id, route, status, seconds)

    def _say(self, scope: Scope, request_id: str, route: str, status: int, seconds: float) -> None:
        key = scope.get("key", "")
        self._metrics.request(route, status, seconds, key)
        client = (scope.get("client") or ("", 0))[0]
        about = {"id": request_id, "method": scope["method"], "route": route, "status": status, "client": client}
        if key:
            about["key"] = key
        logger.info("request", extra={**about, "ms": round(1000 * seconds, 1)})
