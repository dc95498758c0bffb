"""Traces by OpenTelemetry, where the server was asked for them: a span for each request, and for what it waits for.

Needs `pip install "polyencoders[traces]"`. Where they go is said by OpenTelemetry's own environment variables, such as
`OTEL_EXPORTER_OTLP_ENDPOINT`. No span holds any text of a client.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from starlette.types import Scope

from polyencoders import __version__
from polyencoders.errors import MissingExtraError

_tracer: Any = None  # None: nobody asked for traces


def start() -> None:
    """Send traces from now on; MissingExtraError if OpenTelemetry is not installed."""
    global _tracer
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError(error.name or "opentelemetry", "traces") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "polyencoders"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("polyencoders", __version__)


def span(name: str, **attributes: str | int | float) -> AbstractContextManager[Any]:
    """Return a span within the current one, until the block ends; nothing without traces."""
    if _tracer is None:
        return nullcontext()
    started: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=attributes)
    return started


@contextmanager
def request_span(scope: Scope) -> Iterator[dict[str, Any]]:
    """Yield where to put what is known of a request once it is answered: `route`, `status`.

    The span belongs to the trace that the client names in its headers, if it does.
    """
    about: dict[str, Any] = {}
    if _tracer is None:
        yield about
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    method = scope["method"]
    with _tracer.start_as_current_span(method, context=extract(headers), kind=SpanKind.SERVER) as here:
        yield about
        here.update_name(f"{method} {about['route']}")
        named = {"http.request.method": method, "http.route": about["route"]}
        for name, value in {**named, "http.response.status_code": about["status"]}.items():
            here.set_attribute(name, value)
