"""`polyencoders serve`: the server, from what was asked for on the command line.

Knows the server's settings and the terminal.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, quieten
from polyencoders.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from polyencoders.serving.settings import Settings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run(
    model: str | None,
    index: str | None,
    compare: list[str],
    host: str,
    port: int,
    key: str | None,
    hosts: list[str],
    cache: Path | None,
    cache_mb: int,
    max_body_mb: float,
    max_documents: int,
    max_requests: int,
    max_wait: float,
    accept_documents_from: str | None,
    page: bool,
    cluster: str | None = None,
    spread: dict[str, Any] | None = None,
) -> None:
    """Load, say where it listens, and answer until told to stop."""
    given = {name: value for name, value in (spread or {}).items() if value is not None}
    if given and cluster is None:
        raise DataError(f"--{next(iter(given)).replace('_', '-')} goes with --ray: the address of a cluster")
    if cluster is not None and index is None:
        raise DataError("--ray goes with --index: it is the index that is spread over the cluster")
    if cluster is not None and port == 0:
        raise DataError("--port 0, any that is free, is for a server on one machine: name one for Ray Serve")
    if model is None and index is None:
        raise DataError("nothing to serve: give a model, or --index PATH, or both")
    if accept_documents_from is not None and (model is None or index is None):
        raise DataError("--accept-documents-from goes with a model and --index: the model that searches its documents")
    key = key.strip() if key is not None else None  # the last line of a file ends with one too many
    if key == "":
        raise DataError("--api-key is empty; leave it out to ask for none")
    try:
        import uvicorn  # noqa: F401

        from polyencoders.serving.app import Server
        from polyencoders.serving.run import bound, log_as_json, serve
        from polyencoders.serving.settings import Limits, Settings
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from None

    quieten()
    settings = Settings(
        model=resolve_backbone(model) if model is not None else None,
        index=index,
        accept_documents_from=resolve_backbone(accept_documents_from) if accept_documents_from else None,
        compare=tuple(resolve_backbone(name) for name in compare),
        host=host,
        port=port,
        key=key,
        hosts=tuple(hosts),
        cache=cache,
        cache_bytes=cache_mb * 1_000_000,
        page=page,
        limits=Limits(body=int(max_body_mb * 1_000_000), documents=max_documents, requests=max_requests, wait=max_wait),
    )
    if cluster is not None:
        _serve_from(cluster, settings, given)
        return
    at = bound(settings)
    console.print("[dim]… loading")
    gc.freeze()  # What is imported stays: looked at again and again, it made large requests four times slower to parse.
    server = Server(settings)
    _announce(settings, "localhost" if host in (*_LOOPBACK, "0.0.0.0", "::") else host, at.getsockname()[1])
    log_as_json()
    serve(server, at)


def _announce(settings: Settings, name: str, port: int, where: str = "") -> None:
    """Say where it listens, and who may ask."""
    what = "The page is at" if settings.page else "Listening at"
    console.print(f"{what} [bold]http://{name}:{port}[/]{where}  (stop with Ctrl-C)")
    if settings.key is None and settings.host not in _LOOPBACK:
        console.print(
            f"[yellow]Anyone who reaches {settings.host} may ask, and change the index: "
            "set POLYENCODERS_API_KEY to ask for a key."
        )
    sys.stdout.flush()


def _serve_from(cluster: str, settings: Settings, spread: dict[str, Any]) -> None:
    """The same server on a cluster, until this process is told to stop."""
    from polyencoders.distributed.cluster import connect
    from polyencoders.distributed.deployed import deployed

    told = threading.Event()

    def stop(*signal: object) -> None:
        if told.is_set():
            return  # it ends already
        told.set()
        raise KeyboardInterrupt

    console.print("[dim]… joining the cluster, starting shards and a server, loading")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        connect(cluster)
        for number in (signal.SIGINT, signal.SIGTERM):  # once connected: Ray has its own idea of the second
            signal.signal(number, stop)
        with deployed(cluster, settings, **spread) as server:
            if hasattr(signal, "SIGHUP"):
                signal.signal(signal.SIGHUP, lambda *_: server.reload())
            spread_over = f", over {len(server.shards)} shards"
            if settings.host in _LOOPBACK:
                _announce(settings, "localhost", settings.port, f" of the cluster's head{spread_over}")
            else:
                _announce(settings, server.host, settings.port, spread_over)
            while not told.wait(5):
                server.check()
    console.print("[dim]stopped")
