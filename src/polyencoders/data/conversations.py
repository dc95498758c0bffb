"""Unlabelled conversations: the built-in ones, or a file of the user's own; a part of them held out.

Knows files and turns; nothing of what is learnt from them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.chitchat import conversations as built_in_conversations
from polyencoders.data.chitchat import side_of
from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import JSON_SUFFIXES, numbered_lines, parse_json, suffix
from polyencoders.data.self_dialogue import read_self_dialogue
from polyencoders.errors import DataError

Conversation = list[str]
"""Turns, the oldest first."""

SELF_DIALOGUE = "self-dialogue:"
"""What stands before the path of that set."""


def load_conversations(source: str | os.PathLike[str], seed: int = 0) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations to train on (about 90% of a file), and to validate on; all have two turns at least.

    Parameters
    ----------
    source
        ``"chitchat"``, whose test conversations are on neither side, a file (see `read_conversations`), or
        ``"self-dialogue:PATH"`` (see `read_self_dialogue`).
    seed
        Chooses the split of a file.

    Raises
    ------
    DataError
        The file cannot be used, or fewer than two of its conversations have a turn that follows another.
    """
    if source == "chitchat":
        found = [conversation for conversation in built_in_conversations() if len(conversation) > 1]
        sides = {name: [talk for talk in found if side_of(talk) == name] for name in ("train", "validation")}
        return sides["train"], sides["validation"]
    # The same conversation twice is on one side.
    name = os.fspath(source)
    read = read_self_dialogue if name.startswith(SELF_DIALOGUE) else read_conversations
    distinct = dict.fromkeys(tuple(conversation) for conversation in read(name.removeprefix(SELF_DIALOGUE)))
    found = [list(conversation) for conversation in distinct if len(conversation) > 1]
    if len(found) < 2:
        raise DataError(
            f"{os.fspath(source)}: {len(found)} distinct conversations of two turns or more; expected one to train on "
            "and one to validate on, at least"
        )
    random.Random(seed).shuffle(found)
    held_out = max(1, len(found) // 10)
    return found[held_out:], found[:held_out]


def read_conversations(path: str | os.PathLike[str]) -> list[Conversation]:
    """Reads conversations, one a line, or in plain text with blank lines between them.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped. A name ending in ``.jsonl``, ``.ndjson`` or ``.json`` (before ``.gz``): JSON Lines,
        each a list of turns or an object with a list ``turns`` (its other fields are not read). Any other name: each
        line is a turn, and a blank line ends a conversation.

    Returns
    -------
    list of list of str
        Turns, the oldest first, in the file's order.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used; the message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "talks.txt")
    >>> _ = path.write_text("Hi!\\nHello.\\n\\nTea?\\nYes, please.\\n")
    >>> read_conversations(path)
    [['Hi!', 'Hello.'], ['Tea?', 'Yes, please.']]
    """
    path = Path(path)
    conversations = list(_of_json(path) if suffix(path) in JSON_SUFFIXES else _of_text(path))
    if not conversations:
        raise DataError(f"{path}: no conversations: the file is empty")
    return conversations


def _of_json(path: Path) -> Iterator[Conversation]:
    for number, line in numbered_lines(path):
        try:
            yield _turns(parse_json(line))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None


def _of_text(path: Path) -> Iterator[Conversation]:
    turns: Conversation = []
    for _, line in numbered_lines(path, blank=True):
        if line.strip():
            turns.append(line.strip())
        elif turns:
            yield turns
            turns = []
    if turns:
        yield turns


def _turns(record: Any) -> Conversation:
    turns = record.get("turns") if isinstance(record, dict) else record
    if not isinstance(turns, list) or not turns:
        raise DataError(f'expected a list of turns, or {{"turns": [...]}}, given {shortened(record)}')
    for number, turn in enumerate(turns, start=1):
        check_text(f"turn {number} of {len(turns)}", turn)
    return turns
