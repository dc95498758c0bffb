"""Overlapping passages of a long document, each as long as a model reads, so that no part of it is left unseen."""

from collections.abc import Sequence, Sized
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.protocols import Encoder, Token, is_encoder
from polyencoders.errors import ModelError

OVERLAP = 5  # A passage begins with the last fifth of the one before: a sentence at the seam is whole in one of them


def passages_of(model: Any, texts: Sequence[str]) -> list[list[str]]:
    """Return the passages of each text in order, by the model's own tokens; a text that it reads whole is its only one.

    A ModelError says that the model does not encode documents on their own, or that its prompt leaves no room.
    """
    if not is_encoder(model):
        raise ModelError(
            f"passages are for models that encode documents on their own, and {type(model).__name__} reads a query and "
            "a document together"
        )
    room = room_of(model)
    if room is None:
        return [[text] for text in texts]
    return [_passages(text, tokens, room) for text, tokens in zip(texts, model.tokens_of(texts), strict=True)]


def room_of(model: Encoder) -> int | None:
    """Return how many tokens of a document's own text a model reads; None: all."""
    if not model.longest:
        return None
    prompt = (getattr(model, "prompts", None) or {}).get("document") or ""
    room = model.longest - len(model.tokens_of([prompt])[0])
    if room < 1:
        raise ModelError(f"the model reads {model.longest} tokens, and its prompt {prompt!r} leaves no room for a text")
    return room


def best_passages(scores: NDArray[Any], passages: Sequence[Sized]) -> NDArray[Any]:
    """Return `(n,)`, the score of the best passage of each of n documents, from the scores of all passages.

    >>> best_passages(np.array([0.1, 0.9, 0.3]), [["a", "b"], ["c"]]).tolist()
    [0.9, 0.3]
    """
    begins = [0, *accumulate(map(len, passages))][:-1]
    return np.asarray(np.maximum.reduceat(scores, begins)) if begins else scores


def _passages(text: str, tokens: Sequence[Token], room: int) -> list[str]:
    own = [token for token in tokens if token.start < token.end]
    if len(own) <= room:
        return [text]
    found: list[str] = []
    begin = 0
    while True:
        end = begin + room
        start = own[begin].start if begin else 0
        if end >= len(own):
            return [*found, text[start:]]
        found.append(text[start : own[end - 1].end])
        desired = end - room // OVERLAP
        # Back to where a word begins, if that is near: what is left of a word would become other tokens.
        words = (place for place in range(desired, begin + room // 2, -1) if _begins_word(text, own[place]))
        begin = next(words, max(desired, begin + 1))


def _begins_word(text: str, token: Token) -> bool:
    """Whether white space comes before a token, or first in it: some tokenisers count the space to the word."""
    return text[token.start - 1].isspace() or text[token.start].isspace()
