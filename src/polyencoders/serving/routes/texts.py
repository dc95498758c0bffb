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

    async def cut(self, name: str, texts: list[str], engine: Engine, beside: int = 0) -> list[str]:
        """Return texts as they are to be read, where the model reads `beside` tokens of something else.

        Raises `TooLargeError` where cutting is not wanted.
        """
        longest = engine.model.longest
        room = None if longest is None else max(1, longest - beside)
        if self.tokens is not None and (room is None or self.tokens < room):
            room = self.tokens
        elif self.allowed and not self.newest:
            return texts  # the model does it
        # A token stands for at least one character.
        long = [place for place, text in enumerate(texts) if room is not None and len(text) + 2 > room]
        cut = list(texts)
        for place, tokens in zip(long, await engine.tokens_of([texts[place] for place in long]), strict=True):
            if room is not None and len(tokens) > room:
                if not self.allowed:
                    raise TooLargeError(
                        f"{name}.{place}: {len(tokens):,} tokens, the most is {room:,}: "
                        "leave out truncate, and it is cut"
                    )
                cut[place] = _kept(texts[place], tokens, room, self.newest)
        return cut


AS_READ = Cutting()  # The model cuts what it cannot read


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
