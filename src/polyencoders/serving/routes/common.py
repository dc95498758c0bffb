"""What every route needs: what is served now, the limits, and texts that are checked against them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from polyencoders.encoders.protocols import is_encoder
from polyencoders.encoders.queries import Query
from polyencoders.serving.refusals import TooLargeError
from polyencoders.serving.served import Served
from polyencoders.serving.settings import Limits


class Body(BaseModel):
    """What a client sends; what it sends besides is left unread, as its other servers may know it."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


Text = Annotated[str, Field(min_length=1)]
# A million wrong items would be a million complaints, a gigabyte of them.
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
QueryText = Annotated[
    Text | Texts,
    Field(description="A text, or the turns of a conversation, the oldest first."),
]


async def served_now(request: Request) -> AsyncIterator[Served]:
    """What is served, held until the request is answered."""
    with request.app.state.current.use() as served:
        yield served


def limits_of(request: Request) -> Limits:
    """The server's."""
    limits: Limits = request.app.state.settings.limits
    return limits


ServedNow = Annotated[Served, Depends(served_now)]
TheLimits = Annotated[Limits, Depends(limits_of)]


def check_query(query: Query, limits: Limits) -> Query:
    """The query, if it is not too long.

    Raises
    ------
    TooLargeError
        It is.
    """
    if isinstance(query, str):
        check_length("query", query, limits)
    else:
        if len(query) > limits.turns:
            raise TooLargeError(f"query: {len(query):,} turns, the most is {limits.turns:,}")
        for number, turn in enumerate(query):
            check_length(f"query.{number}", turn, limits)
        check_length("query: all turns", "".join(query), limits)
    return query


def check_texts(name: str, texts: Sequence[str], limits: Limits) -> None:
    """Refuse more texts, or longer ones, than a request may hold.

    Raises
    ------
    TooLargeError
        Saying which.
    """
    if len(texts) > limits.documents:
        raise TooLargeError(f"{name}: {len(texts):,} texts, the most in one request is {limits.documents:,}")
    for number, text in enumerate(texts):
        check_length(f"{name}.{number}", text, limits)


def check_length(name: str, text: str, limits: Limits) -> None:
    """Refuse a text that is longer than a request may hold.

    Raises
    ------
    TooLargeError
        It is.
    """
    if len(text) > limits.text:
        raise TooLargeError(f"{name}: {len(text):,} characters, the most is {limits.text:,}")


def check_has_vectors(served: Served, what: str) -> None:
    """Refuse what only a model with document vectors can do."""
    from fastapi import HTTPException

    if not is_encoder(served.engine.model):
        raise HTTPException(404, f"{served.engine.name} reads query and document together: it has no {what}")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: how a route may refuse."""
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
        503: "The storage of the index, or a machine that holds a share of it, cannot be reached: come back after "
        "`Retry-After` seconds.",
        507: "The index could not be written.",
    }
    always = (400, 401, 403, 408, 413, 421, 422, 429)
    return {
        status: {"description": reasons[status], "content": {"application/json": {"schema": {"type": "object"}}}}
        for status in sorted({*always, *statuses})
    }
