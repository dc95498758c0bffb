"""Reads the Self-dialogue Corpus: 24,249 conversations, each written by one person (Fainberg et al., 2018)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from polyencoders.data.sources import Source, turns_as_examples
from polyencoders.data.tables import named_rows
from polyencoders.errors import DataError


def read_self_dialogue(path: str | os.PathLike[str]) -> list[list[str]]:
    """Reads the conversations. A DataError names the file and the line.

    Parameters
    ----------
    path
        The folder ``corpus``, which has a folder of CSV tables for each topic; a topic's folder; or a table. A row is a
        conversation, its turns in the columns ``Answer.sentence1``, ``Answer.sentence2`` and so on. Some are empty.

    Returns
    -------
    list of list of str
        Each conversation's turns, oldest first, with white space normalised, in the order of the files' names and rows.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "batch.csv")
    >>> _ = path.write_text("Answer.sentence1,Answer.sentence10,Answer.sentence2\\nSeen it?,I did.,Twice.\\n")
    >>> read_self_dialogue(path)
    [['Seen it?', 'Twice.', 'I did.']]
    """
    root = Path(path)
    tables = sorted([*root.rglob("*.csv"), *root.rglob("*.csv.gz")]) if root.is_dir() else [root]
    if not tables:
        raise DataError(f"{root}: no tables, expected files such as music/Batch_2809000_batch_results.csv")
    return [conversation for table in tables for conversation in _conversations(table)]


def source(path: str, seed: int) -> Source:
    """``self-dialogue:PATH``: what `read_self_dialogue` takes. The three turns before are the query."""
    return Source.of(turns_as_examples(read_self_dialogue(path)))


def _conversations(path: Path) -> list[list[str]]:
    rows = [row for _, row in named_rows(path)]
    if not rows:
        raise DataError(f"{path}: no conversations: the file is empty, or has only a header")
    numbers = {name: int(match[1]) for name in rows[0] if (match := re.fullmatch(r"Answer\.sentence(\d+)", name))}
    if not numbers:
        raise DataError(f"{path}:1: no columns Answer.sentence1, Answer.sentence2, ...; given only {list(rows[0])[:3]}")
    columns = sorted(numbers, key=numbers.__getitem__)
    return [[text for name in columns if (text := " ".join(row[name].split()))] for row in rows]
