"""How many documents are longer than what a model reads: the rest of their text is not looked at, and that is said."""

import random
from collections.abc import Sequence
from typing import Any

SAMPLE = 500  # Texts whose tokens are counted: a fraction of them is known to two hundredths


def cut_documents(model: Any, texts: Sequence[str]) -> tuple[float, int] | None:
    """Return the fraction of documents that are cut, and after how many tokens; None where nothing is cut.

    `model` keeps the contract of `Scorer`. A text that fits to the last token counts as cut.

    >>> class Short:
    ...     document_length = 3
    ...     def count_tokens(self, texts):
    ...         return [min(3, len(text.split())) for text in texts]
    >>> cut_documents(Short(), ["tea", "tea for two and two for tea"])
    (0.5, 3)
    """
    manifest = getattr(model, "manifest", None)
    longest = getattr(model, "document_length", None) or getattr(manifest, "max_length", None)
    longest = longest or getattr(model, "max_seq_length", None)
    if not longest or not texts or not hasattr(model, "count_tokens"):
        return None
    drawn = random.Random(0).sample(texts, min(SAMPLE, len(texts)))
    cut = sum(count >= longest for count in model.count_tokens(drawn)) / len(drawn)
    return (cut, int(longest)) if cut else None


def said_of_cut(model: Any, texts: Sequence[str]) -> str | None:
    """Return one line on documents that are cut; None where nothing is."""
    found = cut_documents(model, texts)
    if found is None:
        return None
    cut, longest = found
    return (
        f"{cut:.0%} of the documents are longer than the {longest} tokens that are read of each; the rest is not seen."
    )
