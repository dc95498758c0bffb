"""Used by all routes: what is served now, and checks of texts against the limits."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from polyencoders.encoders.queries import Query
from polyencoders.serving.errors import TooLargeError
from polyencoders.serving.loaded import Served
from polyencoders.serving.settings import Limits

DEEPEST = 32  # Levels of a body, at most


class Body(BaseModel):
    """A request's body. Unknown fields are ignored, as other servers of the client may know them."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _not_too_deep(cls, value: Any) -> Any:
        # Which depth Python's reader of JSON refuses by itself depends on its version.
        level = [value]
        for _ in range(DEEPEST):
            parts = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
            level = [part for some in parts for part in some]
            if not level:
                return value
        raise ValueError(f"nested deeper than {DEEPEST} levels")


Text = Annotated[str, Field(min_length=1)]
# fail_fast: a million wrong items would otherwise be a million messages, a gigabyte.
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
QueryText = Annotated[Text | Texts, Field(description="A text, or the turns of a conversation, the oldest first.")]


async def served_now(request: Request) -> AsyncIterator[Served]:
    """Yield what is served, held until the request is answered."""
    with request.app.state.current.use() as served:
        yield served


def limits_of(request: Request) -> Limits:
    """Return the server's limits."""
    limits: Limits = request.app.state.settings.limits
    return limits


ServedNow = Annotated[Served, Depends(served_now)]
TheLimits = Annotated[Limits, Depends(limits_of)]


def check_query(query: Query, limits: Limits) -> None:
    """Raise `TooLargeError` if the query is too long."""
    if isinstance(query, str):
        check_length("query", query, limits)
        return
    if len(query) > limits.turns:
        raise TooLargeError(f"query: {len(query):,} turns, the most is {limits.turns:,}")
    for number, turn in enumerate(query):
        check_length(f"query.{number}", turn, limits)
    check_length("query: all turns", "".join(query), limits)


def check_texts(name: str, texts: Sequence[str], limits: Limits) -> None:
    """Raise `TooLargeError` if there are too many texts, or one is too long."""
    if len(texts) > limits.documents:
        raise TooLargeError(f"{name}: {len(texts):,} texts, the most in one request is {limits.documents:,}")
    for number, text in enumerate(texts):
        check_length(f"{name}.{number}", text, limits)


def check_length(name: str, text: str, limits: Limits) -> None:
    """Raise `TooLargeError` if a text is too long."""
    if len(text) > limits.text:
        raise TooLargeError(f"{name}: {len(text):,} characters, the most is {limits.text:,}")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for the OpenAPI document."""
    reasons = {
        400: "Not JSON.",
        401: "The key is missing or wrong.",
        403: "A page of another site asked.",
        404: "Not served here.",
        408: "The body did not arrive in time.",
        409: "What is served cannot be replaced.",
        413: "Too many, or too long, texts.",
        421: "Not a name of this server.",
        422: "Something in the body cannot be used; the message says what.",
        429: "Too much waits: come back after `Retry-After` seconds.",
        503: "The storage of the index, or a machine that holds a slice of it, cannot be reached: come back after "
        "`Retry-After` seconds.",
        507: "The index could not be written.",
    }
    always = (400, 401, 403, 408, 413, 421, 422, 429)
    return {
        status: {"description": reasons[status], "content": {"application/json": {"schema": {"type": "object"}}}}
        for status in sorted({*always, *statuses})
    }
