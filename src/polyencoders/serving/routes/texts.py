"""Texts as clients send them: plain, in objects, blank, null or too long."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AliasChoices, Field

from polyencoders.encoders.protocols import Token
from polyencoders.errors import DataError
from polyencoders.serving.engine import Engine
from polyencoders.serving.errors import TooLargeError
from polyencoders.serving.notes import Notes
from polyencoders.serving.routes.common import Body

# fail_fast: a million wrong items would otherwise be a million messages, a gigabyte.
Items = Annotated[list[str | dict[str, Any] | None], Field(min_length=1, fail_fast=True)]
"""Texts, or objects with a text; null is a blank one."""

_TEXTS = ("text", "content")  # Where objects have it
EDGE = 100  # Tokens of a part of a text, at most, that are others than in the whole: those of a word that was cut


class OfTexts(Body):
    """A body with texts: what is too long is cut, as the client wants."""

    mends = True

    model: str = Field("", description="Any name: there is one model here.")
    truncate: bool | str = Field(
        True,
        validation_alias=AliasChoices("truncate", "truncation"),
        description="Whether a text that is too long for the model is cut (true, `END`, or `START` for its beginning) "
        "or refused (false, `NONE`).",
    )
    truncation_direction: str = Field("Right", description="`Left`: the beginning is cut off.")
    max_tokens_per_doc: int | None = Field(
        None,
        ge=1,
        description="Tokens of a text that are read, where the model would read more.",
    )

    def cutting(self) -> "Cutting":
        """Return how texts are to be cut; DataError if it is said in words that are not known."""
        how, direction = str(self.truncate).upper(), self.truncation_direction.lower()
        if how not in ("TRUE", "FALSE", "NONE", "END", "START"):
            raise DataError(f"truncate: expected true, false, 'NONE', 'END' or 'START', got {how[:20]!r}")
        if direction not in ("left", "right"):
            raise DataError(f"truncation_direction: expected 'Left' or 'Right', got {direction[:20]!r}")
        newest = how == "START" or (how == "TRUE" and direction == "left")
        return Cutting(how not in ("FALSE", "NONE"), newest, self.max_tokens_per_doc)


@dataclass(frozen=True)
class Cutting:
    """What becomes of texts that are too long."""

    allowed: bool = True
    newest: bool = False  # Whether the end is kept
    tokens: int | None = None  # Tokens to keep, if the model reads more

    async def cut(self, name: str, texts: list[str], engine: Engine, beside: Sequence[int] = ()) -> list[str]:
        """Return texts as they are to be read, where the model reads so many tokens `beside` each, or none.

        Raises `TooLargeError` where cutting is not wanted.
        """
        cut = list(texts)
        for place, taken in enumerate(beside or [0] * len(texts)):
            room = self._room(engine.model.longest, taken)
            if room is None or len(texts[place]) + 2 <= room:  # a token stands for at least one character
                continue
            part, tokens = await _part(texts[place], room, self.newest, engine)
            if len(tokens) > room and not self.allowed:
                count = f"{'more than ' * (len(part) < len(texts[place]))}{len(tokens):,} tokens"
                raise TooLargeError(f"{name}.{place}: {count}, the most is {room:,}: leave out truncate, and it is cut")
            if len(tokens) > room:
                cut[place] = _kept(part, tokens, room, self.newest)
        return cut

    def _room(self, longest: int | None, beside: int) -> int | None:
        """Return how many tokens a text may have; None where the model does by itself what is wanted."""
        room = None if longest is None else max(1, longest - beside)
        if self.tokens is not None and (room is None or self.tokens < room):
            return self.tokens
        return None if self.allowed and not self.newest else room


AS_READ = Cutting()  # The model cuts what it cannot read


async def _part(text: str, room: int, newest: bool, engine: Engine) -> tuple[str, list[Token]]:
    """Return as much of the beginning, or of the end, as has more than `room` tokens, or all; and its tokens.

    The tokens of a long text take a second to make, in which nobody else's are made.
    """
    size = 16 * (room + EDGE)
    while True:
        part = text[-size:] if newest else text[:size]
        (tokens,) = await engine.tokens_of([part])
        if len(part) == len(text) or len(tokens) > room + EDGE:
            return part, tokens
        size *= 4


def _kept(text: str, tokens: Sequence[Token], room: int, newest: bool) -> str:
    """Return the beginning or the end of a text that is `room` tokens long, special ones included.

    >>> words = [Token(1, "[CLS]", 0, 0, True), Token(2, "a", 0, 1, False), Token(3, "tea", 2, 5, False)]
    >>> _kept("a tea", words, 2, newest=False), _kept("a tea", words, 2, newest=True)
    ('a', 'tea')
    """
    words = [token for token in tokens if not token.special]
    if not words:
        return text
    fit = max(1, room - (len(tokens) - len(words)))
    return text[words[-fit].start :] if newest else text[: words[fit - 1].end]


def text_of(item: str | dict[str, Any] | None, place: str, fields: Sequence[str] = ()) -> str:
    """Return the text of an item; of an object its `fields` where given, otherwise its text or content.

    >>> text_of({"content": [{"type": "text", "text": "tea"}]}, "inputs.0")
    'tea'
    >>> text_of({"title": "Tea", "body": "with milk"}, "documents.0", ["title", "body"])
    'title: Tea\\nbody: with milk'
    """
    if item is None or isinstance(item, str):
        return item or ""
    if fields:
        named = [f"{name}: {item[name]}" for name in fields if item.get(name) is not None]
        if not named:
            raise DataError(f"{place}: the object lacks any of the rank_fields {', '.join(fields)}")
        return "\n".join(named)
    found = next((item[name] for name in _TEXTS if name in item), None)
    if isinstance(found, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in found):
        return "\n".join(part["text"] for part in found)
    if not isinstance(found, str):
        raise DataError(
            f"{place}: the object lacks a `text`, which is all that is read here, and rank_fields are not given"
        )
    return found


def say_blank(name: str, texts: Sequence[str], notes: Notes, so: str) -> list[int]:
    """Return the places of texts without any character but white space, and say what becomes of them."""
    blank = [place for place, text in enumerate(texts) if not text.strip()]
    notes.say_of_each([f"{name}.{place}" for place in blank], f"blank, {so}")
    return blank
