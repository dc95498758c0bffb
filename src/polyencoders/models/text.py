"""What a query is, before it is tokens: a text, or a conversation of turns, the oldest first.

Joins turns to one text and cuts what does not fit from the oldest end, at a word. Knows tokenisers; nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Query = str | Sequence[str]


def join_turns(query: Query, separator: str) -> str:
    """One text of a query: itself, or its turns with the separator between them.

    Raises:
        TypeError: the query is neither a text nor turns.
        ValueError: there are no turns.

    >>> join_turns(["Hi!", "Hello, how are you?"], " / ")
    'Hi! / Hello, how are you?'
    """
    if isinstance(query, str):
        return query
    if not isinstance(query, Sequence) or not all(isinstance(turn, str) for turn in query):
        raise TypeError(f"a query is a text or a list of turns (texts), got {_shown(query)}")
    if not query:
        raise ValueError("a query of turns needs at least one turn, got an empty list")
    return separator.join(query)


def check_document(document: Any) -> str:
    """The document, if it is a text.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(document, str):
        raise TypeError(f"a document is a text, got {_shown(document)}")
    return document


def cut(tokenizer: Any, text: str, max_tokens: int, keep: Literal["newest", "oldest"]) -> str:
    """The end (`newest`) or the beginning (`oldest`) of a text: as many whole words as fit into `max_tokens` tokens.

    Special tokens are not counted. A single word that is longer than that is left for the tokeniser to cut.
    """
    # A token stands for at least one character, so a text this short fits.
    if len(text) <= max_tokens or number_of_tokens(tokenizer, text) <= max_tokens:
        return text
    words = text.split(" ")

    def kept(number: int) -> str:
        return " ".join(words[-number:] if keep == "newest" else words[:number])

    fits, too_many = 1, len(words)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if number_of_tokens(tokenizer, kept(middle)) <= max_tokens:
            fits = middle
        else:
            too_many = middle
    return kept(fits)


def number_of_tokens(tokenizer: Any, text: str) -> int:
    """How many tokens a text is, special tokens not counted."""
    return len(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])


def _shown(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:57] + '...'}"
