"""The Self-dialogue Corpus: people who wrote both sides of a conversation, 24,249 of them (Fainberg et al., 2018).

Knows the tables of https://github.com/jfainberg/self_dialogue_corpus. Made for pre-training: conversations, whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from polyencoders.data.examples import Example
from polyencoders.data.sides import Conversations, Source
from polyencoders.data.tables import named_rows
from polyencoders.errors import DataError


def read_self_dialogue(path: str | os.PathLike[str]) -> list[list[str]]:
    """Reads the conversations.

    Parameters
    ----------
    path
        The folder ``corpus``, whose folders, a topic each, hold CSV tables; a topic's folder; or a table. A row is a
        conversation, its turns in the columns ``Answer.sentence1``, ``Answer.sentence2`` and so on.

    Returns
    -------
    list of list of str
        Each conversation's turns, oldest first, with white space normalised and the empty ones left out; in the order
        of the files' names and rows.

    Raises
    ------
    DataError
        When there are no tables, or one cannot be used; the message begins with the file and the line number.

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


def turns_as_examples(conversations: Sequence[Sequence[str]], turns: int = 3) -> Conversations:
    """Every turn but the first as an answer to those before it.

    Parameters
    ----------
    conversations
        Turns, oldest first.
    turns
        How many turns before the answer make the query, at most; 1 or more.

    Returns
    -------
    list of list of Example
        The examples of each conversation.

    Examples
    --------
    >>> turns_as_examples([["Hi!", "Tea?", "Please."]], turns=1)[0][1].query
    ('Tea?',)
    """
    if turns < 1:
        raise DataError(f"turns={turns}: expected 1 or more turns before the answer")
    return [[Example(said[max(0, i - turns) : i], said[i]) for i in range(1, len(said))] for said in conversations]


def source(path: str, seed: int) -> Source:
    """``self-dialogue:PATH``: what `read_self_dialogue` takes; the three turns before make the query."""
    return Source.of(turns_as_examples(read_self_dialogue(path)))


def _conversations(path: Path) -> list[list[str]]:
    conversations = []
    columns: list[str] | None = None
    for _, row in named_rows(path):
        if columns is None:
            numbers = {name: match[1] for name in row if (match := re.fullmatch(r"Answer\.sentence(\d+)", name))}
            columns = sorted(numbers, key=lambda name: int(numbers[name]))
            if not columns:
                raise DataError(
                    f"{path}:1: no columns Answer.sentence1, Answer.sentence2, ...; given only {list(row)[:3]}"
                )
        conversations.append([text for name in columns if (text := " ".join(row[name].split()))])
    if not conversations:
        raise DataError(f"{path}: no conversations: the file is empty, or has only a header")
    return conversations
