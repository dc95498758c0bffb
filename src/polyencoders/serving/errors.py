"""Turns exceptions into HTTP answers, in the formats of Cohere, OpenAI, and text-embeddings-inference (also ours).

A message never contains a path of the machine.
"""

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


def refusal(
    scope: MutableMapping[str, Any], status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer to a request that is refused, in the format that clients of its path expect."""
    path = scope["path"]
    kind = _KINDS.get(status, "Validation" if status < 500 else "Backend")
    body: dict[str, Any]
    if path.startswith(("/v1/rerank", "/v2/rerank")):
        body = {"message": message}
    elif path.startswith("/v1/"):
        body = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    else:
        body = {"error": message, "error_type": kind}
    return JSONResponse(body, status, dict(headers or {}))


class TooLargeError(DataError):
    """A request holds too many, or too long, texts."""


def without_paths(message: str) -> str:
    """Replace each path in a message by its last part.

    >>> without_paths("/srv/models/mine: no such model directory (see /etc/x/y.conf)")
    'mine: no such model directory (see y.conf)'
    >>> without_paths("either/or, 3/4, https://example.org/a/b")
    'either/or, 3/4, https://example.org/a/b'
    """
    return _PATH.sub(lambda match: match.group(1), message)


def install(app: FastAPI) -> None:
    """Have an application answer errors this way."""
    ours = (BusyError, DataError, ModelError, IndexingError, ClusterError)
    for kind in (RequestValidationError, HTTPException, *ours, Exception):
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    scope = request.scope
    match error:
        case RequestValidationError():
            return refusal(scope, 422, _what_is_wrong(error))
        case HTTPException():
            return refusal(scope, error.status_code, str(error.detail), error.headers)
        case BusyError():
            return refusal(scope, 429, str(error), {"retry-after": str(error.retry_after)})
        case TooLargeError():
            return refusal(scope, 413, without_paths(str(error)))
        case ModelError():
            return refusal(scope, 409, without_paths(str(error)))
        case StorageError():
            logger.error("the object storage: %s", error)
            said = "the storage of the index cannot be reached; nothing is lost, ask again"
            return refusal(scope, 503, said, {"retry-after": "10"})
        case ClusterError():
            logger.error("the cluster: %s", error)
            return refusal(scope, 503, without_paths(str(error)), {"retry-after": "5"})
        case IndexingError() if isinstance(error.__cause__, OSError):  # a full disk
            logger.error("the index could not be written", exc_info=error)
            return refusal(scope, 507, "the index could not be written: what was there before is there")
        case DataError() | IndexingError():
            return refusal(scope, 422, without_paths(str(error)))
    logger.error("unexpected", exc_info=error)
    return refusal(scope, 500, "something went wrong here; the server's log says what")


def _what_is_wrong(error: RequestValidationError, most: int = 3) -> str:
    """Return the first few of pydantic's messages with their places, and without what was given."""
    found: dict[str, str] = {}
    for one in error.errors():
        # For a field of several types, pydantic adds their names to the place.
        place = ".".join(str(part) for part in one["loc"][1:] if re.fullmatch(r"\w+", str(part)) and part != "str")
        found.setdefault(place, str(one["msg"]))
    said = [f"{place}: {message}" if place else message for place, message in found.items()]
    more = len(said) - most
    return "; ".join(said[:most]) + (f"; and {more} more" if more > 0 else "")
