"""The server as one ASGI application: routes, errors, the gate before them, and the page behind them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

from fastapi import FastAPI

from polyencoders import __version__
from polyencoders.errors import IndexingError, ModelError
from polyencoders.serving import refusals
from polyencoders.serving.batching import BusyError
from polyencoders.serving.books import Bookkeeper, Books
from polyencoders.serving.gate import App, Gate, Receive, Scope, Send
from polyencoders.serving.routes import embeddings, explain, operations, rerank, search
from polyencoders.serving.served import Current, OpenIndex, open_here
from polyencoders.serving.settings import Settings

logger = logging.getLogger("polyencoders.serving")

LOOK_AGAIN = 2.0
"""Seconds after which a version of the index that another process wrote is seen."""


class Server:
    """The application with what is around it; an ASGI application itself.

    Parameters
    ----------
    settings
        What is served, and to whom. It is loaded here.
    open_index
        How its index is opened, with its model; by default on this machine.

    Raises
    ------
    ModelError, IndexingError
        It cannot be loaded.
    """

    def __init__(self, settings: Settings, open_index: OpenIndex = open_here) -> None:
        books = Books()
        self._asked = self._reloading = False
        self.current = Current(settings, books.batch, open_index)
        self.api = FastAPI(
            title="polyencoders",
            version=__version__,
            description="Rerank and search text with poly-, bi- and cross-encoders.",
            lifespan=self._lifespan,
            docs_url=None,  # its page loads scripts from elsewhere
            redoc_url=None,
        )
        for part in (rerank, search, explain, embeddings, operations):
            self.api.include_router(part.router)
        refusals.install(self.api)
        if settings.page:
            from polyencoders.serving.page import mount

            mount(self.api)
        gate = Gate(self.api, settings)
        self._app: App = Bookkeeper(gate, books)
        state = self.api.state
        state.settings, state.current, state.books, state.gate = settings, self.current, books, gate
        state.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look_again())
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # another thread, another system
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self.reload()))
        yield
        app.state.stopping = True
        looking.cancel()
        await asyncio.to_thread(self.current.close)

    async def _look_again(self) -> None:
        """Versions that other processes write are searched soon after."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            with self.current.use() as served:
                if served.library is not None:
                    try:
                        await asyncio.to_thread(served.library.refresh)
                    except Exception as error:  # whatever is wrong with it now, it may be mended
                        logger.warning("the index could not be looked at: %s", error)

    async def reload(self) -> None:
        """Load again; what is asked for meanwhile is done after it, once."""
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
