"""Decides who may ask, and how much: hosts, keys, the number of requests at once, the size and the time of a body.

Plain ASGI around the whole application. Starlette has no such limits, and its check of hosts does not answer in the
formats of our clients.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polyencoders.serving.bodies import RefusedError, check_type, unpacked
from polyencoders.serving.errors import refusal
from polyencoders.serving.keys import Asker, Keys
from polyencoders.serving.origins import LOOPBACK, Origins, alike
from polyencoders.serving.settings import Key, Limits, Settings

OPEN = ("/health", "/ready", "/.well-known/live", "/.well-known/ready")
"""Answered without a key, and however busy the server is; so a body that comes with such a request is not read."""


ARRIVING = 8
"""Bodies of one key that may arrive at the same time, for each request that it may have in progress."""


class Limiter:
    """ASGI middleware: lets in what settings allow.

    It reads a body whole before the application runs, and cancels the application when the client goes away. A request
    counts as in progress from then on: bodies that never arrive keep nobody out.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        keys = (*([Key("", settings.key)] if settings.key is not None else []), *settings.keys)
        self._keys = Keys(keys, settings.limits)
        self._limits = settings.limits
        self._origins = Origins(settings.origins)
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
        try:
            asker = self._let_in(scope)
        except RefusedError as error:
            await refusal(scope, *error.refused)(scope, receive, send)
            return
        if asker is None:
            await self._run(scope, receive, send, b"")
            return
        scope["limits"], scope["key"] = asker.limits, asker.name
        inside = False
        parts: list[bytes] = []

        def leave() -> None:
            nonlocal inside
            self.inside -= inside
            asker.inside -= inside
            inside = False

        async def last(message: Message) -> None:
            if _is_the_last(message):
                leave()  # first: a client that has its answer may ask again at once
            await send(message)

        try:
            asker.arriving += 1
            try:
                body = await self._whole(scope, receive, parts, asker.limits)
            finally:
                asker.arriving -= 1
            if body is not None:
                self._check_room(asker)
                self.inside += 1
                asker.inside += 1
                inside = True
                await self._run(scope, receive, last, body)
        except RefusedError as error:
            await refusal(scope, *error.refused)(scope, receive, last)
        finally:
            leave()
            self._held -= sum(map(len, parts))

    def _let_in(self, scope: Scope) -> Asker | None:
        """Return who asks, None for what anybody may; raise a `RefusedError` if the request is not let in."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._hosts is not None and _name(host) not in self._hosts:
            raise RefusedError(421, f"this server is not {_name(host)!r}: start it with --allow-host for that name")
        # Also the origin "null" of a frame in a sandbox, which any page can make.
        origin = headers.get("origin")
        own = (alike(f"http://{host}"), alike(f"https://{host}"))
        if origin is not None and (alike(origin) or origin) not in own and not self._origins.allow(origin):
            shown = origin[:80].encode("ascii", "replace").decode()
            raise RefusedError(
                403, f"a page of another site asked, {shown!r}: start the server with --allow-origin for that site"
            )
        if scope["path"] in OPEN:
            return None
        asker = self._keys.who(headers)
        if asker is None:
            # A browser asks its user for it: any name, and the key as the password.
            challenge = 'Basic realm="polyencoders, the key is the password", charset="UTF-8"'
            reason = "the key is missing or wrong: send it as 'Authorization: Bearer KEY'"
            raise RefusedError(401, reason, {"www-authenticate": challenge})
        self._check_room(asker)
        most = ARRIVING * asker.limits.requests
        if asker.name and asker.arriving >= most:  # whoever needs no key is not kept out by others without one
            reason = f"{asker.arriving} bodies of this key are arriving, the most is {most}: come back in a second"
            raise _closing(429, reason, {"retry-after": "1"})
        length, most = headers.get("content-length", "0"), asker.limits.body
        if length.isdecimal() and int(length) > most:
            raise RefusedError(
                413, f"the body has {int(length):,} bytes, the most is {most:,}", {"connection": "close"}
            )
        return asker

    def _check_room(self, asker: Asker) -> None:
        """Raise a `RefusedError` if so many requests are in progress that no other one may be."""
        for inside, most in ((self.inside, self._limits.requests), (asker.inside, asker.limits.requests)):
            if inside >= most:
                reason = f"{inside} requests are in progress, the most is {most}: come back in a second"
                raise RefusedError(429, reason, {"retry-after": "1"})

    async def _whole(self, scope: Scope, receive: Receive, parts: list[bytes], limits: Limits) -> bytes | None:
        """Read the body into `parts`; return it, or None if the client has gone.

        Raises a `RefusedError` if it is too long, too slow, or packed so that it cannot be read.
        """
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._held += len(parts[-1])
                    if size > limits.body:
                        raise _closing(413, f"the body has more than {limits.body:,} bytes")
                    self._check_memory()
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise _closing(408, f"the body did not arrive within {self._limits.body_seconds:g} s") from None
        whole = b"".join(parts)
        if scope["method"] == "POST":
            check_type(scope, whole)
            plain = unpacked(scope, whole, limits.body)
            if plain is not whole:
                parts.append(plain)
                self._held += len(plain)
                self._check_memory()
            return plain
        return whole

    def _check_memory(self) -> None:
        """Raise a `RefusedError` if all bodies in progress together are too large."""
        if self._held > max(self._limits.bodies, self._limits.body):
            raise _closing(429, "as much as fits into memory has come already", {"retry-after": "1"})

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


def _closing(status: int, reason: str, headers: dict[str, str] | None = None) -> RefusedError:
    """Return the refusal of a request of which more may come: its connection is closed."""
    return RefusedError(status, reason, {"connection": "close", **(headers or {})})


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
