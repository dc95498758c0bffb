"""Reads WikiQA: questions, and sentences of a Wikipedia article of which some answer them (Yang et al., 2015).

The set is in parallel files of tokenised text: ``a.toks`` questions, ``b.toks`` sentences, ``sim.txt`` labels.
"""

import os
from itertools import groupby
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import item, located, nothing_left, number_left_out, numbered_lines
from polyencoders.data.sources import Source, read_folders
from polyencoders.errors import DataError

_FILES = ("id.txt", "a.toks", "b.toks", "sim.txt")


def read_wikiqa(path: str | os.PathLike[str]) -> list[Example]:
    """Reads one split of WikiQA.

    `path` is a folder with ``id.txt``, ``a.toks``, ``b.toks`` and ``sim.txt``. Their lines hold a question's id, the
    question, a sentence, and 1 where it answers the question, 0 where not. A question's lines follow one another.

    There is an example for each question, in the files' order. Its sentences are the candidates, in their order.
    Questions that no sentence answers are left out, as is usual. A DataError names the file and the line.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, lines in {"id.txt": "1\\n1\\n", "a.toks": "what is tea ?\\n" * 2, "sim.txt": "0\\n1\\n",
    ...                     "b.toks": "coffee is not .\\ntea is a drink .\\n"}.items():
    ...     _ = (folder / name).write_text(lines)
    >>> read_wikiqa(folder)[0].positives
    ('tea is a drink .',)
    """
    folder = Path(path)
    columns = [[line.strip() for _, line in numbered_lines(folder / name, blank=True)] for name in _FILES]
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in zip(_FILES, columns, strict=True))
        raise DataError(f"{folder}: the files differ in length: {lengths} lines")
    examples, before = [], number_left_out()
    rows = zip(range(1, len(columns[0]) + 1), *columns, strict=True)
    for _, group in groupby(rows, key=lambda row: row[1]):
        with item():
            if (example := _example(folder, list(group))) is not None:
                examples.append(example)
    if not examples:
        raise nothing_left(folder, "no examples: no question has an answer", before)
    return examples


def _example(folder: Path, lines: list[tuple[int, str, str, str, str]]) -> Example | None:
    """Returns the example that the lines of a question are, each with its number; None where no sentence answers it."""
    first, identity, asked, *_ = lines[0]
    for number, _, question, _, label in lines:
        if label not in ("0", "1"):
            raise DataError(f"{folder / 'sim.txt'}:{number}: expected 0 or 1, given {shortened(label)}")
        if question != asked:
            raise DataError(f"{folder / 'a.toks'}:{number}: another question than line {first} has, with id {identity}")
    right = [sentence for _, _, _, sentence, label in lines if label == "1"]
    if not right:
        return None
    with located(f"{folder / 'a.toks'}:{first}"):
        return Example(asked, right, candidates=[sentence for _, _, _, sentence, _ in lines])


def source(path: str, seed: int) -> Source:
    """``wikiqa:PATH``: the folder with ``train``, ``dev`` and ``test`` in it, or one of them."""
    return read_folders(Path(path), lambda folder: Source(read_wikiqa(folder)), seed)
