"""What an answer has to say besides what was asked: which texts were mended, and which fields were not used.

It stands in the header `X-Notes`, and in `meta.warnings` where a client reads that. Where a client, or the server's
`--strict`, wants no such help, it is refused instead.
"""

from collections.abc import Iterable, MutableMapping
from typing import Annotated, Any

from fastapi import Depends, Request

from polyencoders.errors import DataError

MOST = 10  # Notes that are said one by one
LONGEST = 200  # Characters of a note


class Notes(list[str]):
    """The notes of one request; where it is strict, a note is an error.

    >>> notes = Notes()
    >>> notes.say("documents.1 is blank")
    >>> notes
    ['documents.1 is blank']
    >>> Notes(strict=True).say("documents.1 is blank")
    Traceback (most recent call last):
      ...
    polyencoders.errors.DataError: documents.1 is blank; to accept that, send the header 'Prefer: handling=lenient'
    """

    def __init__(self, strict: bool = False) -> None:
        super().__init__()
        self.strict = strict

    def say(self, note: str) -> None:
        """Add a note; DataError where the request is strict."""
        if self.strict:
            raise DataError(f"{note}; to accept that, send the header 'Prefer: handling=lenient'")
        self.append(note[:LONGEST])

    def say_of_each(self, places: Iterable[str], what: str) -> None:
        """Say one thing of several places of the body, such as `documents.3`."""
        named = list(places)
        if named:
            more = f" and {len(named) - MOST:,} more" if len(named) > MOST else ""
            self.say(f"{', '.join(named[:MOST])}{more}: {what}")

    def header(self) -> str:
        """Return them as the value of a header: names that a client made up may hold anything."""
        text = "; ".join(self[:MOST]).encode("ascii", "backslashreplace").decode()
        return "".join(character if " " <= character <= "~" else "?" for character in text).strip()


def is_strict(preferences: str, otherwise: bool) -> bool:
    """Tell what the header `Prefer` asks for (RFC 7240, section 4.4).

    >>> is_strict("respond-async, handling=strict", False), is_strict("Handling = lenient", True), is_strict("", True)
    (True, False, True)
    """
    asked = {part.replace(" ", "").lower() for part in preferences.split(",")}
    return "handling=strict" in asked or (otherwise and "handling=lenient" not in asked)


def notes_of(request: Request) -> Notes:
    """Return the notes of a request; `metrics.RequestLog` writes them into the answer."""
    notes = Notes(is_strict(request.headers.get("prefer", ""), request.app.state.settings.strict))
    request.scope["notes"] = notes
    return notes


def written_in(scope: MutableMapping[str, Any]) -> str:
    """Return the notes of a request as a header; empty if there are none."""
    notes = scope.get("notes")
    return notes.header() if notes else ""


TheNotes = Annotated[Notes, Depends(notes_of)]
