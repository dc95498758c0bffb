"""`polyencoders serve`: the server, from what was asked for on the command line.

Knows the server's settings and the terminal.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, quieten
from polyencoders.errors import DataError, MissingExtraError


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
) -> None:
    """Load, say where it listens, and answer until told to stop."""
    if model is None and index is None:
        raise DataError("nothing to serve: give a model, or --index PATH, or both")
    if accept_documents_from is not None and (model is None or index is None):
        raise DataError("--accept-documents-from goes with a model and --index: the model that searches its documents")
    key = key.strip() if key is not None else None  # the last line of a file ends with one too many
    if key == "":
        raise DataError("--api-key is empty; leave it out to ask for none")
    try:
        import uvicorn  # noqa: F401

        if page:
            import gradio  # noqa: F401

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
    at = bound(settings)
    console.print("[dim]… loading")
    gc.freeze()  # What is imported stays: looked at again and again, it made large requests four times slower to parse.
    server = Server(settings)
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    url = f"http://{name}:{at.getsockname()[1]}"
    console.print(f"{'The page is at' if page else 'Listening at'} [bold]{url}[/]  (stop with Ctrl-C)")
    if key is None and host not in ("127.0.0.1", "::1", "localhost"):
        console.print(
            f"[yellow]Anyone who reaches {host} may ask, and change the index: "
            "set POLYENCODERS_API_KEY to ask for a key."
        )
    sys.stdout.flush()
    log_as_json()
    serve(server, at)
