"""Which pages of other sites may ask, from a browser: none, unless the server is told so."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from polyencoders.errors import DataError

LOOPBACK = ("localhost", "127.0.0.1", "0.0.0.0", "::1")
"""Names of this machine; a page has the same right under each of them."""
_ORIGIN = re.compile(r"(https?://)(\[[^\]/]+\]|[^:/\[\]]+)(:\d+)?")
_READABLE = ["x-request-id", "x-notes", "retry-after"]  # Headers of an answer that a page may read


def alike(origin: str) -> str | None:
    """Return an origin with one name for this machine; None if it is no origin.

    >>> alike("http://127.0.0.1:3000"), alike("http://[::1]:3000"), alike("https://Search.example"), alike("null")
    ('http://localhost:3000', 'http://localhost:3000', 'https://search.example', None)
    """
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    scheme, name, port = found.groups()
    return f"{scheme}{'localhost' if name.strip('[]') in LOOPBACK else name}{port or ''}"


def origin_of(given: str) -> str:
    """Return an origin as it was given; DataError if it is none.

    >>> origin_of("https://search.example/page")
    Traceback (most recent call last):
      ...
    polyencoders.errors.DataError: --allow-origin: expected scheme, name and port, as in http://localhost:3000, or *;
    got 'https://search.example/page'
    """
    if given != "*" and alike(given) is None:
        expected = "expected scheme, name and port, as in http://localhost:3000, or *"
        raise DataError(f"--allow-origin: {expected}; got {given!r}")
    return given


class Origins:
    """The origins that may ask, besides the server's own; `*`: any."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._any = "*" in allowed
        self._allowed = {alike(origin) for origin in allowed if origin != "*"}

    def allow(self, origin: str) -> bool:
        """Tell whether pages of this origin may ask."""
        return self._any or alike(origin) in self._allowed - {None}


class Crossing:
    """ASGI middleware: answers browsers that ask for pages of allowed origins, as Starlette does."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app, self._origins = app, origins
        any_of_them = {"allow_origin_regex": ".*", "allow_methods": ["*"], "allow_headers": ["*"]}
        self._cors = CORSMiddleware(app, **any_of_them, expose_headers=_READABLE)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        crosses = origin is not None and self._origins.allow(origin)
        await (self._cors if crosses else self._app)(scope, receive, send)
