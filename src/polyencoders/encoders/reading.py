"""Which words of a query its codes are made of, from the shares of its tokens."""

from collections.abc import Sequence

import numpy as np

from polyencoders.encoders.protocols import QueryReading, Vectors, Word


def reading(
    text: str,
    prompt: str,
    was_cut: bool,
    names: Sequence[str],
    places: Sequence[tuple[int, int]],
    numbers: Sequence[int | None],
    special: Sequence[bool],
    shares: Vectors,
    codes: Vectors,
) -> QueryReading:
    """Join tokens to words, and add up their shares.

    `text`, `prompt` and `was_cut` are as in `QueryReading`, `shares` `(m, t)` and `codes` `(m, d)`. Of each of the `t`
    tokens are given its name, where it stands in the text, the number of its word (None where the tokeniser does not
    say), and whether it is special.
    """
    words: list[Word] = []
    word_of_token = []
    before: int | None = None
    for name, (start, end), number, is_special in zip(names, places, numbers, special, strict=True):
        if number is not None and number == before and not is_special:
            words[-1] = words[-1]._replace(text=text[words[-1].start : end], end=end)
        else:
            start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokens begin with a space
            shown = name if is_special or start >= end else text[start:end]
            words.append(Word(shown, start, end, is_special))
        before = None if is_special else number
        word_of_token.append(len(words) - 1)
    merged = np.zeros((len(shares), len(words)), dtype=np.float32)
    np.add.at(merged.T, word_of_token, shares.T)
    return QueryReading(text, prompt, was_cut, words, merged, codes)
