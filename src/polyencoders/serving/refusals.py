"""Errors as each client reads them: Cohere's, OpenAI's, and text-embeddings-inference's, whose shape is ours as well.

The one place where an exception becomes a status; what it says never names a path of the machine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from polyencoders.errors import ClusterError, DataError, IndexingError, ModelError, StorageError
from polyencoders.serving.batching import BusyError

logger = logging.getLogger("polyencoders.serving")

_KINDS = {
    401: "Unauthorized",
    404: "NotFound",
    408: "Timeout",
    413: "TooLarge",
    421: "Misdirected",
    429: "Overloaded",
    503: "Unhealthy",
}
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:/[^/\s'\",;:()]+)+/([^/\s'\",;:()]*)")


def body(path: str, status: int, message: str) -> dict[str, Any]:
    """What an error says, in the shape that clients of this path expect."""
    if path.startswith(("/v1/rerank", "/v2/rerank")):
        return {"message": message}
    kind = _KINDS.get(status, "Validation" if status < 500 else "Backend")
    if path.startswith("/v1/"):
        return {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return {"error": message, "error_type": kind}


def refusal(
    scope: MutableMapping[str, Any], status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to a request that is refused."""
    return JSONResponse(body(scope["path"], status, message), status, dict(headers or {}))


class TooLargeError(DataError):
    """More, or longer, texts than one request may hold."""


def without_paths(message: str) -> str:
    """A message with the last part of each path in it.

    Examples
    --------
    >>> without_paths("/srv/models/mine: no such model directory (see /etc/x/y.conf)")
    'mine: no such model directory (see y.conf)'
    >>> without_paths("either/or, 3/4, https://example.org/a/b")
    'either/or, 3/4, https://example.org/a/b'
    """
    return _PATH.sub(lambda match: match.group(1), message)


def install(app: FastAPI) -> None:
    """Teach an application these answers."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refusal(request.scope, 422, _what_is_wrong(error))

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(request.scope, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return refusal(request.scope, 429, str(error), {"retry-after": str(error.retry_after)})

    @app.exception_handler(TooLargeError)
    async def too_large(request: Request, error: TooLargeError) -> JSONResponse:
        return refusal(request.scope, 413, str(error))

    @app.exception_handler(DataError)
    async def unusable(request: Request, error: DataError) -> JSONResponse:
        return refusal(request.scope, 422, without_paths(str(error)))

    @app.exception_handler(ModelError)
    async def no_model(request: Request, error: ModelError) -> JSONResponse:
        return refusal(request.scope, 409, without_paths(str(error)))

    @app.exception_handler(IndexingError)
    async def no_index(request: Request, error: IndexingError) -> JSONResponse:
        if isinstance(error.__cause__, OSError):  # a full disk
            logger.error("the index could not be written", exc_info=error)
            return refusal(request.scope, 507, "the index could not be written: what was there before is there")
        return refusal(request.scope, 422, without_paths(str(error)))

    @app.exception_handler(StorageError)
    async def no_storage(request: Request, error: StorageError) -> JSONResponse:
        logger.error("the object storage: %s", error)
        said = "the storage of the index cannot be reached; nothing is lost, ask again"
        return refusal(request.scope, 503, said, {"retry-after": "10"})

    @app.exception_handler(ClusterError)
    async def no_machine(request: Request, error: ClusterError) -> JSONResponse:
        logger.error("the cluster: %s", error)
        return refusal(request.scope, 503, without_paths(str(error)), {"retry-after": "5"})

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("unexpected", exc_info=error)
        return refusal(request.scope, 500, "something went wrong here; the server's log says what")


def _what_is_wrong(error: RequestValidationError, most: int = 3) -> str:
    """The first few of pydantic's complaints, each with its place, and without what was given."""
    found: dict[str, str] = {}
    for one in error.errors():
        # Of a field that may be this or that, pydantic names the kinds as if they were places.
        place = ".".join(str(part) for part in one["loc"][1:] if re.fullmatch(r"\w+", str(part)) and part != "str")
        found.setdefault(place, str(one["msg"]))
    said = [f"{place}: {message}" if place else message for place, message in found.items()]
    more = len(said) - most
    return "; ".join(said[:most]) + (f"; and {more} more" if more > 0 else "")
