"""Who may come in, and with how much: hosts, the key, the number of requests at once, the size and the time of a body.

Plain ASGI, before anything else of the server sees a request, the page's included. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from polyencoders.serving.refusals import refusal
from polyencoders.serving.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/health", "/ready")
"""Answered without a key, and however busy it is."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Gate:
    """ASGI middleware; one `Settings` says what it lets in.

    It reads a request's body whole before the application runs, and ends the application's work when the client goes
    away.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.app = app
        self._key = settings.key
        self._limits = settings.limits
        # Bound to all addresses, it cannot know by which names it is reached unless it is told.
        everywhere = settings.host in ("", "0.0.0.0", "::") and not settings.hosts
        self._hosts = None if everywhere or "*" in settings.hosts else {settings.host, *LOOPBACK, *settings.hosts}
        self.inside = 0
        """Requests in progress."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is not None:
            await refusal(scope, *refused)(scope, receive, send)
            return
        counted = scope["path"] not in OPEN
        self.inside += counted
        try:
            body = await self._body(scope, receive, send)
            if body is not None:
                await self._run(scope, receive, send, body)
        finally:
            self.inside -= counted

    def _refused(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Status, reason and headers, if a request is not let in."""
        headers = Headers(scope=scope)
        host = _name(headers.get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            return 421, f"this server is not {host!r}: start it with --allow-host for that name", {}
        origin = headers.get("origin")
        if origin is not None and origin != "null" and urlsplit(origin).netloc != headers.get("host"):
            return 403, "a page of another site asked: requests from browsers must come from this server's page", {}
        if scope["path"] in OPEN:
            return None
        if self._key is not None and not _has_key(headers, self._key):
            return (
                401,
                "the key is missing or wrong: send it as 'Authorization: Bearer KEY'",
                # A browser asks its user for it: any name, and the key as the password.
                {"www-authenticate": 'Basic realm="polyencoders, the key is the password", charset="UTF-8"'},
            )
        if self.inside >= self._limits.requests:
            return 429, f"{self.inside} requests are in progress: come back in a second", {"retry-after": "1"}
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.body:
            return (
                413,
                f"the body has {int(length):,} bytes, the most is {self._limits.body:,}",
                {"connection": "close"},
            )
        return None

    async def _body(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """The whole body; None when it is too long, too slow, or its client has gone."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limits.body:
                        reason = f"the body has more than {self._limits.body:,} bytes"
                        await refusal(scope, 413, reason, {"connection": "close"})(scope, receive, send)
                        return None
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            reason = f"the body did not arrive within {self._limits.body_seconds:g} s"
            await refusal(scope, 408, reason, {"connection": "close"})(scope, receive, send)
            return None

    async def _run(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        """The application, until it has answered or the client has gone."""
        gone = asyncio.ensure_future(_disconnected(receive))
        given = answered = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        work = asyncio.ensure_future(self.app(scope, replay, noted))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not answered:
                work.cancel()
            try:
                await work
            except asyncio.CancelledError:
                if not gone.done():
                    raise
        finally:
            work.cancel()
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> _name("localhost:8080"), _name("[::1]:8080"), _name("example.org")
    ('localhost', '::1', 'example.org')
    """
    return host[1:].split("]")[0] if host.startswith("[") else host.rsplit(":", 1)[0].lower()


def _has_key(headers: Headers, key: str) -> bool:
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    given = (rest.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode("latin-1")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    return hmac.compare_digest(given, key.encode())
