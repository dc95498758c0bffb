"""The server as one ASGI application: routes, errors, limits, metrics and the page."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from polyencoders import __version__
from polyencoders.errors import IndexingError, ModelError
from polyencoders.serving import errors, traces
from polyencoders.serving.batching import BusyError
from polyencoders.serving.limits import Limiter
from polyencoders.serving.loaded import Current, OpenIndex, open_here
from polyencoders.serving.metrics import Metrics, RequestLog
from polyencoders.serving.origins import Crossing, Origins
from polyencoders.serving.routes import embed, explain, models, operations, rerank, root, score, search, tokenize
from polyencoders.serving.settings import Settings

logger = logging.getLogger("polyencoders.serving")

LOOK_AGAIN = 2.0  # Seconds after which a version of the index that another process wrote is found


class Server:
    """The ASGI application. The constructor loads what is served; `open_index` opens the index with its model."""

    def __init__(self, settings: Settings, open_index: OpenIndex = open_here) -> None:
        if settings.traces:
            traces.start()
        metrics = Metrics()
        self.settings = settings
        self._asked = self._reloading = False
        self.current = Current(settings, metrics.batch, open_index)
        self.api = FastAPI(
            title="polyencoders",
            version=__version__,
            description="Rerank and search text with poly-, bi- and cross-encoders.",
            lifespan=self._lifespan,
            docs_url=None,  # its page loads scripts from elsewhere
            redoc_url=None,
        )
        for part in (rerank, score, embed, root, search, explain, tokenize, models, operations):
            self.api.include_router(part.router)
        errors.install(self.api)
        if settings.page:
            from polyencoders.serving.page import mount

            mount(self.api)
        limiter = Limiter(self.api, settings)
        self._app = RequestLog(Crossing(limiter, Origins(settings.origins)), metrics)
        state = self.api.state
        state.settings, state.current, state.metrics, state.limiter = settings, self.current, metrics, limiter
        state.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":  # as GET; who listens leaves the body out
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look_again())
        # Not in another thread, and not on Windows.
        with contextlib.suppress(AttributeError, NotImplementedError, ValueError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self.reload()))
        yield
        app.state.stopping = True
        looking.cancel()
        await asyncio.to_thread(self.current.close)

    async def _look_again(self) -> None:
        """Search versions that other processes write soon after."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            with self.current.use() as served:
                if served.library is not None:
                    try:
                        await asyncio.to_thread(served.library.refresh)
                    except Exception as error:  # it may be repaired later
                        logger.warning("the index could not be looked at: %s", error)

    async def reload(self) -> None:
        """Load everything again; once more afterwards if that is asked for meanwhile."""
        self._asked = True
        if self._reloading:
            return
        self._reloading = True
        while self._asked:
            self._asked = False
            try:
                await asyncio.to_thread(self.current.reload)
                logger.info("loaded again")
            except BusyError:
                self._asked = True
                await asyncio.sleep(0.2)
            except (ModelError, IndexingError) as error:
                logger.error("%s", error)
        self._reloading = False
