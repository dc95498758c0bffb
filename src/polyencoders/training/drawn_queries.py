"""Queries drawn from the documents of an index, where there is no log: titles, first sentences, questions."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from polyencoders.errors import TrainingError
from polyencoders.index import Index

SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
"""Where a sentence ends. A title on a line of its own is a sentence."""

WORDS = (3, 40)  # The fewest and the most words of a query: fewer say little, and nobody types more


def drawn_queries(index: Index, number: int) -> list[str]:
    """Returns queries from as many documents, all over an index: of each its title, first sentence and questions.

    Raises a `TrainingError` where none has a text, as in an index that was made of vectors alone.
    """
    rows = [row for row in index.sample(number) if row["text"]]
    if not rows:
        raise TrainingError(
            f"{index.path}: its documents have no texts, so that a teacher has nothing to read: give pairs of a query "
            "and its right answer, or make the index with the texts"
        )
    return [query for row in rows for query in queries_of(row)]


def queries_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Yields what could be asked of a document, an index's row.

    >>> list(queries_of({"title": "Tea at four", "text": "We serve tea at four. Who may come? All of you. Why?"}))
    ['Tea at four', 'We serve tea at four.', 'Who may come?']
    """
    sentences = SENTENCE.split(row["text"].strip())
    asked = [sentence for sentence in sentences[1:] if sentence.endswith("?")]
    for text in (row.get("title"), sentences[0], *asked):
        if isinstance(text, str) and WORDS[0] <= len(text.split()) <= WORDS[1]:
            yield text.strip()
