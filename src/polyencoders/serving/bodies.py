"""A request's body as it was before it was packed, and what is said where it is no JSON."""

import zlib
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

JSON = "application/json"
_PACKED = ("gzip", "x-gzip", "deflate")
_ANY_HEADER = 47  # zlib's word for: gzip or zlib, whichever it is

Refused = tuple[int, str, dict[str, str]]  # Status, reason, and headers


class RefusedError(Exception):
    """A request is refused; the argument says how."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.refused: Refused = status, reason, headers or {}


def check_type(scope: MutableMapping[str, Any], body: bytes) -> None:
    """Raise a `RefusedError` if a body is sent as something else than JSON. One without a type is taken for JSON."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if not body or kind == JSON or kind.endswith("+json"):
        return
    if kind:
        raise RefusedError(
            415, f"the content type is {kind[:60]!r}: send the header 'Content-Type: application/json' (curl: --json)"
        )
    MutableHeaders(scope=scope)["content-type"] = JSON


def unpacked(scope: MutableMapping[str, Any], body: bytes, most: int) -> bytes:
    """Return a body that may be compressed, of `most` bytes at most; raise a `RefusedError` if it cannot be read.

    >>> import gzip
    >>> scope = {"type": "http", "headers": [(b"content-encoding", b"gzip")]}
    >>> unpacked(scope, gzip.compress(b"tea"), 100)
    b'tea'
    """
    packed = Headers(scope=scope).get("content-encoding", "").strip().lower()
    if not body or packed in ("", "identity"):
        return body
    if packed not in _PACKED:
        raise RefusedError(415, f"the content encoding is {packed[:40]!r}: send gzip, deflate, or no encoding")
    reader = zlib.decompressobj(_ANY_HEADER)
    try:
        plain = reader.decompress(body, most + 1)
    except zlib.error:
        raise RefusedError(400, f"the body is not {packed}, as its header 'Content-Encoding' says") from None
    if len(plain) > most:
        raise RefusedError(413, f"the body has more than {most:,} bytes when unpacked")
    if not reader.eof:
        raise RefusedError(400, f"the body ends in the middle of its {packed}")
    if reader.unused_data:  # left out, it would be lost in silence
        raise RefusedError(400, f"the body goes on after the end of its {packed}: send it in one piece")
    del MutableHeaders(scope=scope)["content-encoding"]
    return plain
