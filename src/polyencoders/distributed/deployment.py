"""Starts the shards and the server on a Ray cluster, and ends them, leaving nothing behind."""

import contextlib
import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyencoders.distributed.cluster import connect, one_line, the_ray
from polyencoders.distributed.replicas import Shards
from polyencoders.errors import ClusterError, MissingExtraError, PolyencodersError
from polyencoders.index.storage import existing, place_of
from polyencoders.serving.settings import GRACE, KEEP_ALIVE, Settings

NAME = "polyencoders"  # The name of the application; a cluster has one
LISTENING = 30.0  # Seconds until Ray Serve listens


@dataclass
class Deployment:
    """A server that runs on a cluster."""

    _serve: Any
    _handle: Any
    shards: Shards
    host: str  # The address of the machine that listens

    def reload(self) -> None:
        """Have it load the model and the index again, without waiting."""
        self._handle.reload.remote()

    def check(self) -> None:
        """Raise `ClusterError` if somebody else ended the server or the cluster."""
        try:
            there = NAME in self._serve.status().applications
        except Exception as error:  # a lost connection raises many kinds
            raise ClusterError(f"the cluster does not answer any more: {one_line(error, 200)}") from error
        if not there:
            raise ClusterError("the server was ended by someone else: Ray Serve has no such application any more")


@contextmanager
def deployed(
    address: str,
    settings: Settings,
    *,
    shards: int | None = None,
    replicas: int = 1,
    threads: int | None = None,
    patience: float = 10.0,
    partial: bool = False,
    server_threads: int = 1,
) -> Iterator[Deployment]:
    """Start shards and a server on a cluster; yield when it answers, and end both after the block.

    It listens on the cluster's head, and its model has `server_threads` processors. The other parameters are those of
    `ShardedIndex.on`.
    """
    settings = _absolute(settings)
    assert settings.index is not None
    existing(settings.index)  # a wrong name is refused at once
    connect(address)
    ray = the_ray()
    try:
        from ray import serve

        from polyencoders.distributed.server import ClusterServer
    except ImportError as error:
        raise MissingExtraError(error.name or "ray[serve]", "ray") from None
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    _listen(serve, settings)
    started = None
    try:
        if NAME in serve.status().applications and _in_use(serve):
            raise ClusterError(f"the cluster has a server of polyencoders already, at {_where(serve)}: it can have one")
        started = Shards.start(settings.index, shards, replicas, threads, patience, spare=server_threads)
        server: Any = serve.deployment(serve.ingress()(ClusterServer))
        deployment = server.options(
            name="server",
            num_replicas=1,
            # The server itself refuses what is too much, in the format of its clients: the requests must reach it.
            max_ongoing_requests=2 * settings.limits.requests + 64,
            max_queued_requests=settings.limits.requests,
            graceful_shutdown_timeout_s=GRACE,
            graceful_shutdown_wait_loop_s=0.2,
            ray_actor_options={"num_cpus": server_threads},
        )
        handle = _run(ray, serve, deployment.bind(settings, started, partial, server_threads))
        host = settings.host
        if host in ("0.0.0.0", "::"):
            heads = [node for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]
            host = str(heads[0]["NodeManagerAddress"]) if heads else "localhost"
        yield Deployment(serve, handle, started, host)
    finally:
        _end(ray, serve, started)


def _run(ray: Any, serve: Any, application: Any) -> Any:
    """Return the application's handle, once it has loaded."""
    try:
        handle = serve.run(application, name=NAME, route_prefix="/")
        while not handle.loaded.remote().result():
            time.sleep(0.2)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except PolyencodersError:
        raise
    except RuntimeError as error:
        raise ClusterError(f"Ray Serve could not start the server: {one_line(error, 500)}") from error
    return handle


def _absolute(settings: Settings) -> Settings:
    """Return settings with absolute paths, as the server's process runs in a folder of Ray's."""

    def whole(name: str) -> str:
        return str(Path(name).resolve()) if Path(name).exists() else name

    index = place_of(settings.index) if settings.index is not None else None
    return replace(
        settings,
        index=index.resolve() if isinstance(index, Path) else index,
        model=settings.model and whole(settings.model),
        accept_documents_from=settings.accept_documents_from and whole(settings.accept_documents_from),
        compare=tuple(map(whole, settings.compare)),
        cache=settings.cache and settings.cache.resolve(),
    )


def _listen(serve: Any, settings: Settings) -> None:
    """Have Ray Serve listen at the address of the settings."""
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": settings.host, "port": settings.port, "keep_alive_timeout_s": KEEP_ALIVE},
    )
    if _where(serve) != f"{settings.host}:{settings.port}":
        raise ClusterError(
            f"Ray Serve listens at {_where(serve)} on this cluster already: give --host and --port so, or end it "
            "with `serve shutdown`"
        )
    until = time.monotonic() + LISTENING
    while not all(proxy == "HEALTHY" for proxy in serve.status().proxies.values()):
        if time.monotonic() > until:
            serve.shutdown()
            raise ClusterError(f"Ray Serve cannot listen on {_where(serve)} of the cluster's head; is the port taken?")
        time.sleep(0.1)


def _where(serve: Any) -> str:
    options = serve.context._get_global_client().http_config  # it has no public name
    return f"{options.host}:{options.port}"


def _in_use(serve: Any) -> bool:
    """Tell whether the application works or is loading. If its command was killed, its shards are gone."""
    try:
        return bool(serve.get_app_handle(NAME).in_use.remote().result(timeout_s=5))
    except Exception:  # there are many ways not to answer
        return False


def _end(ray: Any, serve: Any, shards: Shards | None) -> None:
    """Let requests in progress finish; then end everything but what others serve on the cluster."""
    if not ray.is_initialized():
        return
    # Ray prints that its controller was killed, though it ends as it should.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            if shards is not None:
                serve.delete(NAME)
            if not serve.status().applications:
                serve.shutdown()
        finally:
            if shards is not None:
                shards.close()
