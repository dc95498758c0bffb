"""From settings to a listening server: uvicorn, signals and logs.

Knows the process; nothing of what is answered.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys

import uvicorn
from pythonjsonlogger.json import JsonFormatter

from polyencoders.serving.app import Server
from polyencoders.serving.protocol import PromptProtocol
from polyencoders.serving.settings import Settings

GRACE = 30
"""Seconds that requests in progress have to end when the server stops."""
KEEP_ALIVE = 75
"""Seconds that a connection is kept for another request: longer than proxies keep theirs, which would else use one in
the moment in which it is closed."""


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
    # uvicorn gives the signal that stopped it to whom it would have gone without it: to be told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(configuration(server)).run(sockets=[at])


def configuration(server: Server) -> uvicorn.Config:
    """How uvicorn is to run."""
    return uvicorn.Config(
        server,
        loop="asyncio",  # the same everywhere, whether or not another package brought uvloop
        http=PromptProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )


def log_as_json() -> None:
    """One JSON object a line on standard error: time, level, logger, message, and what there is besides."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter("%(levelname)s %(name)s %(message)s", timestamp=True, rename_fields={"levelname": "level"})
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "sentence_transformers", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
