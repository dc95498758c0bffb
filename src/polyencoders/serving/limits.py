"""Decides who may ask, and how much: hosts, the key, the number of requests at once, the size and the time of a body.

Plain ASGI around the whole application. Starlette has no such limits, and its check of hosts does not answer in the
formats of our clients.
"""

import asyncio
import base64
import binascii
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyencoders.serving.errors import refusal
from polyencoders.serving.settings import Settings

OPEN = ("/health", "/ready")
"""Answered without a key, and however busy the server is; so a body that comes with such a request is not read."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Refused = tuple[int, str, dict[str, str]]  # Status, reason, and headers


class Limiter:
    """ASGI middleware: lets in what settings allow.

    It reads a body whole before the application runs, and cancels the application when the client goes away.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        # From the environment, bytes that are not UTF-8 come as surrogates.
        self._key = settings.key.encode("utf-8", "surrogateescape") if settings.key is not None else None
        self._limits = settings.limits
        # A server bound to all addresses does not know its names unless they are given.
        everywhere = settings.host in ("", "0.0.0.0", "::") and not settings.hosts
        names = {name.lower() for name in (settings.host, *LOOPBACK, *settings.hosts)}
        self._hosts = None if everywhere or "*" in names else names
        self.inside = 0  # Requests in progress
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        if refused is not None:
            await refusal(scope, *refused)(scope, receive, send)
            return
        if scope["path"] in OPEN:
            await self._run(scope, receive, send, b"")
            return
        self.inside += 1
        inside = True
        parts: list[bytes] = []

        def leave() -> None:
            nonlocal inside
            self.inside -= inside
            inside = False

        async def last(message: Message) -> None:
            if _is_the_last(message):
                leave()  # first: a client that has its answer may ask again at once
            await send(message)

        try:
            if await self._whole(scope, receive, last, parts):
                await self._run(scope, receive, last, b"".join(parts))
        finally:
            leave()
            self._held -= sum(map(len, parts))

    def _refused(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            return 421, f"this server is not {_name(host)!r}: start it with --allow-host for that name", {}
        # Also the origin "null" of a frame in a sandbox, which any page can make.
        if headers.get("origin", f"http://{host}").lower() not in (f"http://{host}", f"https://{host}"):
            return 403, "a page of another site asked: requests from browsers must come from this server's page", {}
        if scope["path"] in OPEN:
            return None
        if self._key is not None and not _has_key(headers, self._key):
            # A browser asks its user for it: any name, and the key as the password.
            challenge = 'Basic realm="polyencoders, the key is the password", charset="UTF-8"'
            reason = "the key is missing or wrong: send it as 'Authorization: Bearer KEY'"
            return 401, reason, {"www-authenticate": challenge}
        if self.inside >= self._limits.requests:
            return 429, f"{self.inside} requests are in progress: come back in a second", {"retry-after": "1"}
        length, most = headers.get("content-length", "0"), self._limits.body
        if length.isdecimal() and int(length) > most:
            return 413, f"the body has {int(length):,} bytes, the most is {most:,}", {"connection": "close"}
        return None

    async def _whole(self, scope: Scope, receive: Receive, send: Send, parts: list[bytes]) -> bool:
        """Read the body into `parts`; return whether it is complete, and neither too long nor too slow."""
        size = 0
        refused: Refused
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._held += len(parts[-1])
                    if size > self._limits.body:
                        refused = 413, f"the body has more than {self._limits.body:,} bytes", {}
                        break
                    if self._held > max(self._limits.bodies, self._limits.body):
                        refused = 429, "as much as fits into memory has come already", {"retry-after": "1"}
                        break
                    if not message.get("more_body", False):
                        return True
        except TimeoutError:
            refused = 408, f"the body did not arrive within {self._limits.body_seconds:g} s", {}
        status, reason, more = refused
        await refusal(scope, status, reason, {"connection": "close", **more})(scope, receive, send)
        return False

    async def _run(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        """Run the application until it has answered or the client has gone."""
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
            answered = _is_the_last(message)
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


def _is_the_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _name(host: str) -> str:
    """Return the name in a Host header, without its port.

    >>> _name("localhost:8080"), _name("[::1]:8080"), _name("example.org")
    ('localhost', '::1', 'example.org')
    """
    return host[1:].split("]")[0] if host.startswith("[") else host.rsplit(":", 1)[0]


def _has_key(headers: Headers, key: bytes) -> bool:
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    given = (rest.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode("latin-1")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    return hmac.compare_digest(given, key)
