"""`polyencoders serve`: a model, an index or both over HTTP."""

from __future__ import annotations

import contextlib
import functools
import gc
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console
from polyencoders.cli.options import (
    AcceptDocumentsFrom,
    Ray,
    RerankBudget,
    RerankOfIndex,
    RerankTop,
    RerankWeight,
    Shards,
    UseWords,
    WordsWeight,
    on_ray,
    reranker_of,
    words_of,
)
from polyencoders.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from polyencoders.serving.settings import Settings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

KEY = "POLYENCODERS_API_KEY"

_access = functools.partial(Option, rich_help_panel="Address and access")
_limit = functools.partial(Option, rich_help_panel="Limits")


def serve(
    model: Annotated[
        str | None, Argument(help="A model directory, or a name on the hub. [default: the model that made the index]")
    ] = None,
    index: Annotated[
        str | None, Option(help="An index to search and to change: a folder, or `s3://bucket/name` in object storage.")
    ] = None,
    compare: Annotated[
        list[str] | None, Option(help="Another model, whose ranking the page shows beside. Can be given several times.")
    ] = None,
    accept_documents_from: AcceptDocumentsFrom = None,
    words: UseWords = False,
    words_weight: WordsWeight = None,
    rerank: RerankOfIndex = None,
    rerank_top: RerankTop = None,
    rerank_weight: RerankWeight = None,
    rerank_budget: RerankBudget = None,
    page: Annotated[bool, Option(help="Whether there is a page at `/`.")] = True,
    strict: Annotated[
        bool,
        Option("--strict", help="Refuse blank texts, half characters and unknown fields: otherwise `X-Notes` says so."),
    ] = False,
    traces: Annotated[
        bool, Option("--traces", help="Send traces by OpenTelemetry, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says.")
    ] = False,
    host: Annotated[str, _access(help="The address to listen on; `0.0.0.0`: all of this machine.")] = "127.0.0.1",
    port: Annotated[int, _access(help="The port; 0: any that is free.", min=0, max=65535)] = 8080,
    key: Annotated[
        str | None,
        _access("--api-key", envvar=KEY, help="The key that requests must carry. In the environment `ps` hides it."),
    ] = None,
    keys: Annotated[
        Path | None, _access(help="A YAML file of keys with names, and limits of their own (docs/serving.md).")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        _access(
            help="An origin whose pages may ask, such as `http://localhost:3000`; `*`: any. Can be given several times."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, _access(help="A certificate, in PEM, to answer by HTTPS; goes with --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, _access(help="Its private key, in PEM.")] = None,
    allow_host: Annotated[
        list[str] | None, _access(help="A name by which this server is reached; `*`: any. Can be given several times.")
    ] = None,
    cache: Annotated[Path | None, Option(help="A file that keeps document vectors over restarts.")] = None,
    cache_mb: Annotated[int, _limit(help="MB of document vectors in memory.", min=1)] = 512,
    max_body_mb: Annotated[float, _limit(help="MB of the largest request.", min=0.001)] = 8.0,
    max_documents: Annotated[int, _limit(help="The most documents of a request.", min=1)] = 1000,
    max_requests: Annotated[int, _limit(help="The most at once; more are told to come back.", min=1)] = 256,
    max_wait: Annotated[
        float, _limit(help="Seconds in which what is let in is done. What cannot be is told to come back.", min=0.1)
    ] = 120.0,
    ray: Ray = None,
    shards: Shards = None,
    replicas: Annotated[int | None, on_ray(help="Processes that hold the same shard. [default: 1]", min=1)] = None,
    threads: Annotated[int | None, on_ray(help="Threads of each shard. [default: as many as cores]", min=1)] = None,
    patience: Annotated[float | None, on_ray(help="Seconds to wait for a lost shard. [default: 10]", min=0.1)] = None,
    partial: Annotated[bool, on_ray("--partial", help="After that, answer without its documents, and say so.")] = False,
    server_threads: Annotated[int | None, on_ray(help="Threads of the model. [default: 1]", min=1)] = None,
) -> None:
    """Answer over HTTP: rerank and search, with a page to try it.

    Needs `pip install "polyencoders[serve]"`. With --ray, shards on all machines of a cluster search the index.

    Examples:

        polyencoders serve models/mine

        polyencoders serve --index answers

        polyencoders serve --index answers --rerank cross-encoder/ms-marco-MiniLM-L-12-v2 --rerank-budget 200ms

        polyencoders serve --index /shared/answers --ray 10.0.0.1:6379 --shards 4 --replicas 2
    """
    given = {"shards": shards, "replicas": replicas, "threads": threads, "patience": patience}
    given |= {"partial": partial or None, "server_threads": server_threads}
    spread = {name: value for name, value in given.items() if value is not None}
    if spread and ray is None:
        raise DataError(f"--{next(iter(spread)).replace('_', '-')} goes with --ray: the address of a cluster")
    if ray is not None and index is None:
        raise DataError("--ray goes with --index: it is the index that is spread over the cluster")
    if ray is not None and port == 0:
        raise DataError("--port 0, any that is free, is for a server on one machine: name one for Ray Serve")
    if model is None and index is None:
        raise DataError("nothing to serve: give a model, or --index PATH, or both")
    if accept_documents_from is not None and (model is None or index is None):
        raise DataError("--accept-documents-from goes with a model and --index: the model that searches its documents")
    if rerank is not None and index is None:
        raise DataError("--rerank goes with --index: a reranker reads the best of a search")
    if (words or words_weight is not None) and index is None:
        raise DataError("--words goes with --index: words are looked for in its documents")
    if (tls_cert is None) != (tls_key is None):
        raise DataError("--tls-cert and --tls-key go together: a certificate, and its private key")
    if tls_cert is not None and ray is not None:
        raise DataError("--tls-cert is for a server on one machine: put a proxy before Ray Serve")
    key = key.strip() if key is not None else None  # a key read from a file ends with a line break
    if key == "":
        raise DataError("--api-key is empty; leave it out to ask for none")
    try:
        import uvicorn  # noqa: F401

        from polyencoders.serving.app import Server
        from polyencoders.serving.keys import read_keys
        from polyencoders.serving.origins import origin_of
        from polyencoders.serving.run import bound, check_tls, log_as_json
        from polyencoders.serving.run import serve as answer
        from polyencoders.serving.settings import Limits, Settings
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from None

    settings = Settings(
        model=resolve_backbone(model) if model is not None else None,
        index=index,
        accept_documents_from=resolve_backbone(accept_documents_from) if accept_documents_from else None,
        compare=tuple(resolve_backbone(name) for name in compare or ()),
        words=words_of(words, words_weight),
        rerank=reranker_of(rerank),
        rerank_top=rerank_top,
        rerank_weight=rerank_weight,
        rerank_budget=rerank_budget,
        host=host,
        port=port,
        key=key,
        keys=read_keys(keys) if keys is not None else (),
        hosts=tuple(allow_host or ()),
        origins=tuple(map(origin_of, allow_origin or ())),
        tls_certificate=tls_cert,
        tls_key=tls_key,
        strict=strict,
        traces=traces,
        cache=cache,
        cache_bytes=cache_mb * 1_000_000,
        page=page,
        limits=Limits(body=int(max_body_mb * 1_000_000), documents=max_documents, requests=max_requests, wait=max_wait),
    )
    if ray is not None:
        _serve_from(ray, settings, spread)
        return
    check_tls(settings)
    at = bound(settings)
    console.print("[dim]… loading")
    gc.freeze()  # Modules stay: collecting them again and again made large requests four times slower to parse.
    server = Server(settings)
    _announce(settings, "localhost" if host in (*_LOOPBACK, "0.0.0.0", "::") else host, at.getsockname()[1])
    log_as_json()
    answer(server, at)


def _announce(settings: Settings, name: str, port: int, where: str = "") -> None:
    """Say where the server listens, and warn where anybody may ask."""
    what = "The page is at" if settings.page else "Listening at"
    scheme = "http" if settings.tls_certificate is None else "https"
    console.print(f"{what} [bold]{scheme}://{name}:{port}[/]{where}  (stop with Ctrl-C)")
    if settings.key is None and not settings.keys and settings.host not in _LOOPBACK:
        console.print(
            f"[yellow]Anyone who reaches {settings.host} may ask, and change the index: set {KEY} to ask for a key."
        )
    sys.stdout.flush()


def _serve_from(cluster: str, settings: Settings, spread: dict[str, Any]) -> None:
    """Serve from a cluster until this process is told to stop."""
    from polyencoders.distributed.cluster import connect
    from polyencoders.distributed.deployment import deployed

    stopped = threading.Event()

    def stop(*signal: object) -> None:
        if not stopped.is_set():
            stopped.set()
            raise KeyboardInterrupt

    console.print("[dim]… joining the cluster, starting shards and a server, loading")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        connect(cluster)
        for number in (signal.SIGINT, signal.SIGTERM):  # after connecting, as Ray handles the second itself
            signal.signal(number, stop)
        with deployed(cluster, settings, **spread) as server:
            if hasattr(signal, "SIGHUP"):
                signal.signal(signal.SIGHUP, lambda *_: server.reload())
            spread_over = f", over {len(server.shards)} shards"
            if settings.host in _LOOPBACK:
                _announce(settings, "localhost", settings.port, f" of the cluster's head{spread_over}")
            else:
                _announce(settings, server.host, settings.port, spread_over)
            while not stopped.wait(5):
                server.check()
    console.print("[dim]stopped")
