"""Runs a server in this process: uvicorn, signals and logs."""

import asyncio
import functools
import logging
import signal
import socket
import ssl
import sys

import uvicorn
from pythonjsonlogger.json import JsonFormatter

from polyencoders.errors import DataError
from polyencoders.serving import connections
from polyencoders.serving.app import Server
from polyencoders.serving.connections import PromptProtocol
from polyencoders.serving.settings import GRACE, KEEP_ALIVE, Settings


def bound(settings: Settings) -> socket.socket:
    """Bind the address, before minutes are spent on loading; return the socket, which does not listen yet."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns off Nagle's algorithm only if the protocol is named; otherwise each answer waits 40 ms.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((settings.host, settings.port))
    except OSError as error:
        taken.close()
        raise OSError(error.errno, f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return taken


def check_tls(settings: Settings) -> None:
    """Raise a DataError if the certificate or its key cannot be used, before minutes are spent on loading."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        # The password: otherwise OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, "")
    except OSError as error:  # SSLError is one
        given = f"--tls-cert {settings.tls_certificate}, --tls-key {settings.tls_key}"
        expected = "expected a certificate and its private key, in PEM and without a password"
        raise DataError(f"{given}: {expected} ({error})") from None


class PromptServer(uvicorn.Server):
    """uvicorn, with a limit for the time of a TLS handshake. A connection is not seen, nor counted, before that."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        if self.config.ssl is not None:
            loop = asyncio.get_running_loop()
            limited = functools.partial(loop.create_server, ssl_handshake_timeout=connections.HEADER_SECONDS)
            loop.create_server = limited  # type: ignore[method-assign]  # uvicorn has no such setting
        await super().startup(sockets)


def serve(server: Server, at: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, and then finish the requests in progress."""
    # uvicorn re-raises the signal for the previous handler. To be told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    PromptServer(configuration(server)).run(sockets=[at])


def configuration(server: Server) -> uvicorn.Config:
    """Return uvicorn's configuration."""
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
        ssl_certfile=server.settings.tls_certificate,
        ssl_keyfile=server.settings.tls_key,
    )


def log_as_json() -> None:
    """Log one JSON object a line to standard error: time, level, logger, message, and extra fields."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter("%(levelname)s %(name)s %(message)s", timestamp=True, rename_fields={"levelname": "level"})
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "sentence_transformers", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
