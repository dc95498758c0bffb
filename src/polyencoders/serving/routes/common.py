"""Used by all routes: a body as it is read, what is served now, and checks of texts against the limits."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, ClassVar, Self

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from polyencoders.encoders.queries import Query
from polyencoders.serving.errors import TooLargeError
from polyencoders.serving.loaded import Served
from polyencoders.serving.notes import Notes
from polyencoders.serving.settings import Limits

DEEPEST = 32  # Levels of a body, at most
_HALF = re.compile("[\ud800-\udfff]")  # Half of a character, such as an emoji cut in two


Path = tuple[str | int, ...]  # Where something stands in a body


class Body(BaseModel):
    """A request's body, as clients of many servers send it.

    Null is the same as nothing. Fields that are not known are kept apart: `read` says which they are.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    mends: ClassVar[bool] = False
    """Whether half characters are replaced. Otherwise they are refused."""

    _given: frozenset[str] = PrivateAttr(frozenset())
    _mended: list[Path] = PrivateAttr(default_factory=list)

    @model_validator(mode="wrap")
    @classmethod
    def _as_sent(cls, value: Any, read: Callable[[Any], Self]) -> Self:
        if not isinstance(value, dict):
            return read(value)
        mended: list[Path] = []
        given = {name: part for name, part in value.items() if part is not None}
        made = read(_whole(given, (), cls.mends, mended))
        made._given, made._mended = frozenset(given), mended
        return made

    def has(self, *names: str) -> bool:
        """Tell whether one of these fields was sent, under this name, and not as null."""
        return not self._given.isdisjoint(names)

    def read(self, notes: Notes) -> None:
        """Say what was mended, and which fields are not known here and so change nothing."""
        notes.say_of_each([".".join(map(str, path)) for path in self._mended], "half a character was replaced")
        notes.say_of_each(sorted(self.model_extra or ()), "not known here, so not used")


def _whole(value: Any, path: Path, mends: bool, mended: list[Path]) -> Any:
    """Return a list or an object with half characters replaced; raise a `ValueError` if it is nested too deep.

    What needs no mending is not copied: there may be a million parts.
    """
    # Which depth Python's reader of JSON refuses by itself depends on its version.
    if len(path) > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    changed: dict[Any, Any] = {}
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(part, str):
            if mends and not part.isascii() and _HALF.search(part):
                mended.append((*path, name))
                changed[name] = _HALF.sub("\ufffd", part)
        elif part and isinstance(part, list | dict):
            whole = _whole(part, (*path, name), mends, mended)
            if whole is not part:
                changed[name] = whole
    if not changed:
        return value
    if isinstance(value, dict):
        return {**value, **changed}
    return [changed.get(place, part) for place, part in enumerate(value)]


Text = Annotated[str, Field(min_length=1)]
# fail_fast: a million wrong items would otherwise be a million messages, a gigabyte.
Texts = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
QueryText = Annotated[Text | Texts, Field(description="A text, or the turns of a conversation, the oldest first.")]


async def served_now(request: Request) -> AsyncIterator[Served]:
    """Yield what is served, held until the request is answered."""
    with request.app.state.current.use() as served:
        yield served


def limits_of(request: Request) -> Limits:
    """Return the limits of whoever asks."""
    limits: Limits = request.scope.get("limits") or request.app.state.settings.limits
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


def check_number(name: str, items: Sequence[Any], limits: Limits) -> None:
    """Raise `TooLargeError` if there are too many texts, before each is looked at: there may be a million."""
    if len(items) > limits.documents:
        raise TooLargeError(f"{name}: {len(items):,} texts, the most in one request is {limits.documents:,}")


def check_texts(name: str, texts: Sequence[str], limits: Limits) -> None:
    """Raise `TooLargeError` if there are too many texts, or one is too long."""
    check_number(name, texts, limits)
    for number, text in enumerate(texts):
        check_length(f"{name}.{number}", text, limits)


def check_length(name: str, text: str, limits: Limits) -> None:
    """Raise `TooLargeError` if a text is too long."""
    if len(text) > limits.text:
        raise TooLargeError(f"{name}: {len(text):,} characters, the most is {limits.text:,}")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for the OpenAPI document."""
    reasons = {
        400: "Not JSON, or not compressed as its header says.",
        401: "The key is missing or wrong.",
        403: "A page of another site asked.",
        404: "Not served here.",
        408: "The body did not arrive in time.",
        409: "What is served cannot be replaced.",
        413: "Too many, or too long, texts.",
        415: "The content type is not JSON, or the body is compressed in a way that is not known here.",
        421: "Not a name of this server.",
        422: "Something in the body cannot be used; the message says what.",
        429: "Too much waits: come back after `Retry-After` seconds.",
        503: "The storage of the index, or a machine that holds a slice of it, cannot be reached: come back after "
        "`Retry-After` seconds.",
        507: "The index could not be written.",
    }
    always = (400, 401, 403, 408, 413, 415, 421, 422, 429)
    return {
        status: {"description": reasons[status], "content": {"application/json": {"schema": {"type": "object"}}}}
        for status in sorted({*always, *statuses})
    }
