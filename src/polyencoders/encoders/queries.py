"""Makes the text of a query: turns are joined, and what does not fit is cut from the oldest end, at a word.

Tokenisers are called as those of transformers are.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

from polyencoders.checks import shown

QUERY, DOCUMENT, PADDING = 0, 1, -1
"""Which text of a pair a token belongs to, where both stand in one sequence."""

Query = str | Sequence[str]  # A text, or the turns of a conversation, the oldest first


def check_query(query: Any) -> Query:
    """Return a query; raise a `TypeError` if it is neither a text nor turns, a `ValueError` if there are no turns."""
    if isinstance(query, str):
        return query
    if not isinstance(query, Sequence) or not all(isinstance(turn, str) for turn in query):
        raise TypeError(f"a query is a text or a list of turns (texts), got {shown(query)}")
    if not query:
        raise ValueError("a query of turns needs at least one turn, got an empty list")
    return query


def check_document(document: Any) -> str:
    """Return the document; raise a `TypeError` if it is not a text."""
    if not isinstance(document, str):
        raise TypeError(f"a document is a text, got {shown(document)}")
    return document


def join_turns(query: Query, separator: str) -> str:
    """Return one text for a query: itself, or its turns with the separator between them. Raises as `check_query`.

    >>> join_turns(["Hi!", "Hello, how are you?"], " / ")
    'Hi! / Hello, how are you?'
    """
    query = check_query(query)
    return query if isinstance(query, str) else separator.join(query)


def query_text(query: Query, separator: str, tokenizer: Any, longest: int | None, prompt: str | None = None) -> str:
    """Return the text of a query that is tokenised: turns joined, and cut from the oldest end to fit beside its prompt.

    `longest` counts the special tokens as well. With None nothing is cut. Raises as `check_query`.
    """
    joined = join_turns(query, separator)
    if longest is None:
        return joined
    reserved = tokenizer.num_special_tokens_to_add(pair=False)
    if prompt:
        reserved += number_of_tokens(tokenizer, prompt)
    return cut(tokenizer, joined, longest - reserved, keep="newest")


def fit_pair(
    tokenizer: Any, query: str, document: str, longest: int | None, prompt: str | None = None
) -> tuple[str, str]:
    """Return a pair cut to what is read in one sequence: the newest of the query, the beginning of the document.

    The document keeps at least half of the room beside the query's prompt, and all that the query leaves.
    """
    if longest is None:
        return query, document
    room = longest - tokenizer.num_special_tokens_to_add(pair=True)
    if prompt:
        room = max(2, room - number_of_tokens(tokenizer, prompt))
    # A token stands for at least one character.
    if len(query) + len(document) <= room:
        return query, document
    document = cut(tokenizer, document, max(room // 2, room - number_of_tokens(tokenizer, query)), keep="oldest")
    return cut(tokenizer, query, max(1, room - number_of_tokens(tokenizer, document)), keep="newest"), document


def cut(tokenizer: Any, text: str, max_tokens: int, keep: Literal["newest", "oldest"]) -> str:
    """Return the end (`newest`) or the beginning (`oldest`) of a text: as many whole words as fit into `max_tokens`.

    Special tokens are not counted. A single word that is longer, as in a language written without spaces, is cut at a
    character.
    """
    # A token stands for at least one character, so a text this short fits.
    words = re.findall(r"\s*\S+", text)
    if len(text) <= max_tokens or not words:
        return text
    fits = _most_that_fit(tokenizer, words, max_tokens, keep)
    if fits == len(words):
        return text
    if fits:
        return _kept(words, fits, keep)
    characters = list(words[-1] if keep == "newest" else words[0])
    return _kept(characters, _most_that_fit(tokenizer, characters, max_tokens, keep), keep)


def _kept(pieces: list[str], number: int, keep: Literal["newest", "oldest"]) -> str:
    return "".join(pieces[len(pieces) - number :] if keep == "newest" else pieces[:number]).strip()


def _most_that_fit(tokenizer: Any, pieces: list[str], max_tokens: int, keep: Literal["newest", "oldest"]) -> int:
    """Count the pieces that fit. Little more than what fits is ever tokenised."""

    def fit(number: int) -> bool:
        return number_of_tokens(tokenizer, _kept(pieces, number, keep)) <= max_tokens

    fits, more = 0, min(len(pieces), max(1, max_tokens))
    while fit(more):
        fits = more
        if fits == len(pieces):
            return fits
        more = min(len(pieces), 2 * more)
    too_many = more
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if fit(middle):
            fits = middle
        else:
            too_many = middle
    return fits


def number_of_tokens(tokenizer: Any, text: str) -> int:
    """Count the tokens of a text, without special tokens."""
    return len(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])
