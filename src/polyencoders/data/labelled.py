"""Reads tables of short texts and the names of their classes: a text is a query, its class's name the document."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from polyencoders.data.examples import Example
from polyencoders.data.lines import parsed
from polyencoders.data.sources import Source, Split, read_splits
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.errors import DataError

_NAMES: dict[Split, list[str]] = {
    "train": ["train.csv", "*train*.csv"],
    "validation": ["val.csv", "valid.csv", "validation.csv", "dev.csv"],
    "test": ["test.csv", "*test*.csv"],
}


def read_labelled(path: str | os.PathLike[str], text: str | None = None, label: str | None = None) -> list[Example]:
    """Reads texts and the names of their classes.

    Parameters
    ----------
    path
        CSV, or TSV where the name ends so, with a header; plain or gzipped.
    text, label
        The columns. None: the first, and the second (Banking77's are ``text`` and ``category``).

    Returns
    -------
    list of Example
        In the file's order. The positive is the name as people write it, ``card_arrival`` as ``card arrival``. There
        are no candidates: every text ranks all names, which `class_names` gives.

    Raises
    ------
    DataError
        When the file or one of its rows cannot be used. The message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "train.csv")
    >>> _ = path.write_text("text,category\\nWhere is my card?,card_arrival\\n")
    >>> read_labelled(path)
    [Example(query=('Where is my card?',), positives=('card arrival',), negatives=(), candidates=None)]
    """
    path = Path(path)
    wanted = [name for name in (text, label) if name is not None]

    def example(row: dict[str, str]) -> Example:
        if len(row) < 2:
            raise DataError(f"one column, {next(iter(row))!r}: expected texts and the names of their classes")
        first, second, *_ = row
        return Example(row[text or first], readable(row[label or second]))

    rows = named_rows(path, "\t" if ".tsv" in path.suffixes else ",", has_columns(*wanted))
    return parsed(path, rows, example, "no examples: the file is empty, or has only a header")


def class_names(*splits: list[Example]) -> tuple[str, ...]:
    """Returns the distinct names in alphabetical order: the list that every text ranks.

    >>> class_names([Example("Where is my card?", "card arrival")], [Example("Is it open?", "opening hours")])
    ('card arrival', 'opening hours')
    """
    return tuple(sorted({name for examples in splits for example in examples for name in example.positives}))


def readable(name: str) -> str:
    """Returns a class's name as people write it.

    >>> readable("card_arrival")
    'card arrival'
    """
    return " ".join(name.replace("_", " ").split())


def source(path: str, seed: int) -> Source:
    """``labelled:PATH``: a table, or a folder with ``train.csv``, ``test.csv`` and perhaps ``validation.csv``."""
    return with_class_names(read_splits(Path(path), _NAMES, lambda file: Source(read_labelled(file)), seed))


def with_class_names(found: Source) -> Source:
    """Makes the names of all classes the list that every query ranks."""
    splits = found.splits
    parts = [found.examples] if splits is None else [splits.train, splits.validation, splits.test]
    return replace(found, corpus=class_names(*parts))
