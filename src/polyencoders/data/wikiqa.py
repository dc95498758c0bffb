"""WikiQA: questions, and the sentences of a Wikipedia article's beginning, of which some answer (Yang et al., 2015).

Knows it as parallel files of tokenised text: ``a.toks`` questions, ``b.toks`` sentences, ``sim.txt`` labels.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.data.sides import Source, with_validation
from polyencoders.errors import DataError

_FILES = ("id.txt", "a.toks", "b.toks", "sim.txt")


def read_wikiqa(path: str | os.PathLike[str]) -> list[Example]:
    """Reads one side of WikiQA.

    Parameters
    ----------
    path
        A folder with ``id.txt``, ``a.toks``, ``b.toks`` and ``sim.txt``: in each line a question's id, the question, a
        sentence, and 1 where it answers the question, 0 where it does not. Lines of one question follow one another.

    Returns
    -------
    list of Example
        A question each, in the files' order; its sentences are the candidates, in theirs. Questions that no sentence
        answers have no right answer, and are left out, as is usual.

    Raises
    ------
    DataError
        When a file or a line cannot be used, or the files differ in length.

    Examples
    --------
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
    examples = []
    rows = enumerate(zip(*columns, strict=True), start=1)
    for _, group in groupby(rows, key=lambda row: row[1][0]):
        listed = list(group)
        first = listed[0][0]
        right, candidates = [], []
        for number, (identity, question, sentence, label) in listed:
            if label not in ("0", "1"):
                raise DataError(f"{folder / 'sim.txt'}:{number}: expected 0 or 1, given {shortened(label)}")
            if question != listed[0][1][1]:
                raise DataError(
                    f"{folder / 'a.toks'}:{number}: another question than line {first} has, with id {identity}"
                )
            candidates.append(sentence)
            if label == "1":
                right.append(sentence)
        if right:
            try:
                examples.append(Example(listed[0][1][1], right, candidates=candidates))
            except DataError as error:
                raise DataError(f"{folder / 'a.toks'}:{first}: {error}") from None
    if not examples:
        raise DataError(f"{folder}: no question has an answer")
    return examples


def source(path: str, seed: int) -> Source:
    """``wikiqa:PATH``: the folder with ``train``, ``dev`` and ``test`` in it, or one of them."""
    folder = Path(path)
    if not (folder / "train").is_dir():
        return Source(read_wikiqa(folder))
    train, validation, test = (read_wikiqa(folder / side) for side in ("train", "dev", "test"))
    return with_validation(Source(train), validation, test, seed)
