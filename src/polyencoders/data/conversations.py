"""Reads unlabelled conversations for pre-training: the built-in ones, or a file. A part of them is held out."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.chitchat import conversations as built_in_conversations
from polyencoders.data.chitchat import split_of
from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import JSON_SUFFIXES, located, numbered_lines, parse_json, suffix
from polyencoders.data.self_dialogue import read_self_dialogue
from polyencoders.errors import DataError

Conversation = list[str]
"""Turns, the oldest first."""

SELF_DIALOGUE = "self-dialogue:"
"""What stands before the path of the Self-dialogue Corpus."""


def load_conversations(source: str | os.PathLike[str], seed: int = 0) -> tuple[list[Conversation], list[Conversation]]:
    """Loads conversations to train on and to validate on, each of at least two turns.

    Parameters
    ----------
    source
        ``"chitchat"``, without its test conversations; a file (see `read_conversations`), of which a tenth is held
        out; or ``"self-dialogue:PATH"`` (see `read_self_dialogue`), likewise.
    seed
        Chooses what is held out.

    Raises
    ------
    DataError
        When the file cannot be used, or fewer than two of its conversations have two turns.
    """
    name = os.fspath(source)
    if name == "chitchat":
        parts: dict[str, list[Conversation]] = {"train": [], "validation": [], "test": []}
        for conversation in built_in_conversations():
            if len(conversation) > 1:
                parts[split_of(conversation)].append(conversation)
        return parts["train"], parts["validation"]
    read = read_self_dialogue if name.startswith(SELF_DIALOGUE) else read_conversations
    # A conversation that is given twice must not be both trained on and held out.
    distinct = dict.fromkeys(tuple(conversation) for conversation in read(name.removeprefix(SELF_DIALOGUE)))
    found = [list(conversation) for conversation in distinct if len(conversation) > 1]
    if len(found) < 2:
        raise DataError(
            f"{name}: {len(found)} distinct conversations of two turns or more; expected at least one to train on and "
            "one to validate on"
        )
    random.Random(seed).shuffle(found)
    held_out = max(1, len(found) // 10)
    return found[held_out:], found[:held_out]


def read_conversations(path: str | os.PathLike[str]) -> list[Conversation]:
    """Reads conversations, one on each line, or in plain text with blank lines between them.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped. With a name ending in ``.jsonl``, ``.ndjson`` or ``.json`` (before ``.gz``), each line
        is a JSON list of turns or an object with a list ``turns``; its other fields are not read. With any other name,
        each line is a turn, and a blank line ends a conversation.

    Returns
    -------
    list of list of str
        Turns, the oldest first, in the file's order.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used. The message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "talks.txt")
    >>> _ = path.write_text("Hi!\\nHello.\\n\\nTea?\\nYes, please.\\n")
    >>> read_conversations(path)
    [['Hi!', 'Hello.'], ['Tea?', 'Yes, please.']]
    """
    path = Path(path)
    conversations = list(_json_conversations(path) if suffix(path) in JSON_SUFFIXES else _text_conversations(path))
    if not conversations:
        raise DataError(f"{path}: no conversations: the file is empty")
    return conversations


def _json_conversations(path: Path) -> Iterator[Conversation]:
    for number, line in numbered_lines(path):
        with located(f"{path}:{number}"):
            turns = _turns(parse_json(line))
        yield turns


def _text_conversations(path: Path) -> Iterator[Conversation]:
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
