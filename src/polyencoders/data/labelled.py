"""A table of short texts and the names of their classes: each text is a query, its class's name the document.

Knows CSV with a header, such as Banking77's (Casanueva et al., 2020); CLINC150's JSON is read in ``clinc150.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

from polyencoders.data.examples import Example
from polyencoders.data.sides import Side, Source, side_file, with_validation
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.errors import DataError

_NAMES: dict[Side, list[str]] = {
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
        In the file's order. The positive is the name as people write it, ``card_arrival`` as ``card arrival``. No
        candidates: every text ranks all names, which `class_names` gives.

    Raises
    ------
    DataError
        When the file or one of its rows cannot be used; the message begins with the file and the line number.

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
    examples = []
    for number, row in named_rows(path, "\t" if ".tsv" in path.suffixes else ",", has_columns(*wanted)):
        try:
            if len(row) < 2:
                raise DataError(f"one column, {next(iter(row))!r}: expected texts and the names of their classes")
            first, second, *_ = row
            examples.append(Example(row[text or first], readable(row[label or second])))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not examples:
        raise DataError(f"{path}: no examples: the file is empty, or has only a header")
    return examples


def class_names(*sides: list[Example]) -> tuple[str, ...]:
    """The distinct names, in alphabetical order: the list that every text ranks.

    >>> class_names([Example("Where is my card?", "card arrival")], [Example("Is it open?", "opening hours")])
    ('card arrival', 'opening hours')
    """
    return tuple(sorted({name for examples in sides for example in examples for name in example.positives}))


def readable(name: str) -> str:
    """A class's name as people write it.

    >>> readable("card_arrival")
    'card arrival'
    """
    return " ".join(name.replace("_", " ").split())


def source(path: str, seed: int) -> Source:
    """``labelled:PATH``: a table, or a folder with ``train.csv``, ``test.csv`` and perhaps ``validation.csv``."""
    folder = Path(path)
    if not folder.is_dir():
        examples = read_labelled(folder)
        return Source(examples, corpus=class_names(examples))
    files = {side: side_file(folder, names) for side, names in _NAMES.items()}
    sides = {side: read_labelled(file) for side, file in files.items() if file is not None}
    if "train" not in sides or len(sides) == 1:
        raise DataError(f"{folder}: expected train.csv and test.csv, with validation.csv or without")
    return by_text(sides, seed)


def by_text(sides: dict[Side, list[Example]], seed: int) -> Source:
    """The source of a set's sides, whose corpus are the names of all classes."""
    corpus = class_names(*sides.values())
    return with_validation(Source(sides["train"]), sides.get("validation"), sides.get("test"), seed, corpus)
