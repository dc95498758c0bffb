"""Texts in batches of like length that hold about as many tokens each: little of what is computed is padding."""

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], tokens_at_once: int) -> Iterator[list[int]]:
    """Yield the places of texts of about the same length, the longest first: what does not fit in memory shows at once.

    `lengths` are the tokens of each text, `tokens_at_once` those of a batch, padding included; a single longer text is
    a batch of its own.

    >>> list(batches([2, 9, 2, 2], 6))
    [[1], [0, 2, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    start = 0
    while start < len(order):
        stop = start + max(1, tokens_at_once // max(1, lengths[order[start]]))
        yield order[start:stop]
        start = stop
