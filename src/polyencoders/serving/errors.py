"""Turns exceptions into HTTP answers that every client can read, and that say what to change.

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
    405: "NotAllowed",
    413: "TooLarge",
    415: "UnsupportedType",
    421: "Misdirected",
    429: "Overloaded",
    503: "Unhealthy",
}
_OPENAI = re.compile(r"(/v1)?/(embeddings|models|score)(/|$)")
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:/[^/\s'\",;:()]+)+/([^/\s'\",;:()]*)")


def refusal(
    scope: MutableMapping[str, Any], status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer to a request that is refused: the message where each client looks for it.

    Cohere's look at `message`, Jina's and Voyage's at `detail`, text-embeddings-inference's at `error`, and OpenAI's,
    by the path, at `error.message`.
    """
    kind = _KINDS.get(status, "Validation" if status < 500 else "Backend")
    error: Any = message
    if _OPENAI.match(scope["path"]):
        error = {"message": message, "type": kind, "param": None, "code": status}
    body = {"error": error, "error_type": kind, "message": message, "detail": message}
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
            first = error.errors()[0]
            if first["type"] == "json_invalid":
                where = f"at character {first['loc'][-1]}" if len(first["loc"]) > 1 else "somewhere"
                return refusal(scope, 400, f"the body is not JSON, {where}: {first['ctx']['error']}")
            return refusal(scope, 422, _what_is_wrong(error))
        case HTTPException(status_code=404, detail="Not Found"):
            return refusal(scope, 404, _nowhere(scope))
        case HTTPException(status_code=405):
            there = scope["app"].openapi()["paths"].get(scope["path"], {"get": None})  # others have an id in their path
            allowed = ", ".join(there).upper()
            said = f"{scope['path'][:80]} does not take {scope['method'][:10]}, but {allowed}"
            return refusal(scope, 405, said, error.headers)
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


def _nowhere(scope: MutableMapping[str, Any]) -> str:
    """Return what to change where there is no such route."""
    there = scope["app"].openapi()["paths"]
    path = scope["path"].rstrip("/")
    parts = path.split("/")
    for start in range(2, len(parts)):  # `/v1/v2/rerank`: the client adds a path of its own to its base URL
        rest = "/" + "/".join(parts[start:])
        if rest in there:
            extra = path[: -len(rest)][:80]
            return f"nothing is at {path[:80]}, but at {rest}: take {extra!r} off the end of the client's base URL"
    if (versioned := f"/v1{path}") in there:
        return f"nothing is at {path[:80]}, but at {versioned}: end the client's base URL with '/v1'"
    known = "/v1/rerank, /v2/rerank, /rerank, /v1/embeddings, /embed, /v1/score, /search; /openapi.json has all"
    return f"nothing is at {path[:80] or '/'}: this server ranks, embeds and searches, at {known}"


def _what_is_wrong(error: RequestValidationError, most: int = 3) -> str:
    """Return the first few of pydantic's messages with their places, and without what was given."""
    found: dict[str, str] = {}
    for one in error.errors():
        # For a field of several types, pydantic adds their names to the place.
        place = ".".join(str(part) for part in one["loc"][1:] if re.fullmatch(r"\w+", str(part)) and part != "str")
        found.setdefault(place or "the body", str(one["msg"]).removeprefix("Value error, "))
    said = [f"{place}: {message}" for place, message in found.items()]
    more = len(said) - most
    return "; ".join(said[:most]) + (f"; and {more} more" if more > 0 else "")
