"""The HTTP server in a process of a Ray cluster, with an index that shards search.

Ray Serve starts it on a machine of its choice, and starts it again if that machine is lost.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from polyencoders.distributed.cluster import use_threads
from polyencoders.distributed.replicas import Shards
from polyencoders.distributed.sharded_index import ShardedIndex
from polyencoders.serving.app import Server
from polyencoders.serving.errors import refusal
from polyencoders.serving.run import log_as_json
from polyencoders.serving.settings import Settings

WAITING = 64
"""Threads that may wait for shards at the same time. While one is lost, others must be left."""


class ClusterServer:
    """The server as a deployment of Ray Serve, whose model has so many threads.

    Until it has loaded, it answers that it is loading. Every machine finds what the settings name under the same name.
    """

    def __init__(self, settings: Settings, shards: Shards, partial: bool, threads: int) -> None:
        log_as_json()
        self._settings, self._shards, self._partial, self._threads = settings, shards, partial, threads
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(WAITING, "waiting"))
        self._loaded: asyncio.Future[None] = loop.create_future()
        self._ending = asyncio.Event()
        self._server: Server | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray Serve's name for it
        async def app(scope: Scope, receive: Receive, send: Send) -> None:  # a method would not be known as ASGI 3
            await self._answer(scope, receive, send)

        return app

    async def loaded(self) -> bool:
        """Whether it has loaded. Raises what went wrong if it cannot."""
        self.check_health()
        return self._server is not None

    async def in_use(self) -> bool:
        """Whether it is loading, or its whole index can be searched."""
        if self._server is None:
            return not self._loaded.done()
        with self._server.current.use() as served:
            return served.whole

    def check_health(self) -> None:
        """Raise what went wrong if it cannot load; Ray Serve then starts another."""
        if self._loaded.done():
            self._loaded.result()

    async def reload(self) -> None:
        """Load the model and the index again, as a server on one machine does on SIGHUP."""
        if self._server is not None:
            await self._server.reload()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._server is not None:
            await self._server(scope, receive, send)
        elif scope["type"] == "http":
            if scope["path"] == "/health":
                answer = JSONResponse({"status": "ok"})
            elif scope["path"] == "/ready":
                answer = JSONResponse({"status": "loading"}, 503)
            else:
                answer = refusal(scope, 503, "the model and the index are being loaded", {"retry-after": "5"})
            await answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Run the application from ASGI's startup to its shutdown."""
        await receive()
        running = asyncio.ensure_future(self._run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._ending.set()
        await running
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        try:
            server = await asyncio.to_thread(self._load)
        except Exception as error:
            self._loaded.set_exception(error)
            return
        async with server.api.router.lifespan_context(server.api):
            self._server = server
            self._loaded.set_result(None)
            await self._ending.wait()

    def _load(self) -> Server:
        use_threads(self._threads)
        return Server(self._settings, self._open)

    def _open(self, settings: Settings) -> ShardedIndex:
        assert settings.index is not None
        return ShardedIndex.on(
            self._shards, settings.index, settings.model, settings.accept_documents_from, partial=self._partial
        )
