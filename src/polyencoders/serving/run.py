"""From settings to a listening server: uvicorn, logs, and connections that must not dawdle.

Knows the process; nothing of what is answered.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import h11
import uvicorn
from pythonjsonlogger.json import JsonFormatter
from uvicorn.protocols.http.h11_impl import H11Protocol

from polyencoders.serving.app import Server
from polyencoders.serving.settings import Settings

HEADER_SECONDS = 10.0
"""Until a new connection has sent a request's headers."""
GRACE = 30
"""Seconds that requests in progress have to end when the server stops."""
CONNECTIONS = 1_024
"""Open at once; beyond, 503 at once."""


class PromptProtocol(H11Protocol):
    """HTTP that hangs up on clients whose headers do not arrive: a body's time is the gate's to keep."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADER_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a request has begun, start it when the beginning of another is there."""
        super().data_received(data)
        begun = self.conn.their_state is not h11.IDLE
        if self._deadline is not None and begun:
            self._deadline.cancel()
            self._deadline = None
        elif self._deadline is None and not begun:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop it."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


def bound(settings: Settings) -> socket.socket:
    """The address, taken before minutes are spent on loading; nobody is listened to yet.

    Raises
    ------
    OSError
        It is taken by another process, or is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio turns off Nagle's algorithm only where it is: else each answer waits 40 ms.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((settings.host, settings.port))
    except OSError as error:
        taken.close()
        raise OSError(error.errno, f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return taken


def serve(server: Server, at: socket.socket) -> None:
    """Answer until the process is told to stop (SIGTERM, SIGINT); then requests in progress are answered still."""
    uvicorn.Server(configuration(server)).run(sockets=[at])


def configuration(server: Server) -> uvicorn.Config:
    """How uvicorn is to run."""
    return uvicorn.Config(
        server,
        http=PromptProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
    )


def log_as_json() -> None:
    """One JSON object a line on standard error: time, level, logger, message, and what there is besides."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter("%(levelname)s %(name)s %(message)s", timestamp=True, rename_fields={"levelname": "level"})
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "sentence_transformers", "gradio", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
