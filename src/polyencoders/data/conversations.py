"""Reads unlabelled conversations for pre-training: the built-in ones, or a file. A part of them is held out."""

from __future__ import annotations

import os
import random
from itertools import groupby
from pathlib import Path
from typing import Any

from polyencoders.data.chitchat import conversations as built_in_conversations
from polyencoders.data.chitchat import split_of
from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import JSON_SUFFIXES, numbered_lines, parse_json, parsed, suffix
from polyencoders.data.self_dialogue import read_self_dialogue
from polyencoders.errors import DataError

_SELF_DIALOGUE = "self-dialogue:"


def load_conversations(source: str | os.PathLike[str], seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Loads conversations to train on and to validate on, each of at least two turns.

    `source` is ``"chitchat"``, without its test conversations; a file (see `read_conversations`); or
    ``"self-dialogue:PATH"`` (see `read_self_dialogue`). Of the last two, a tenth is held out, chosen by `seed`. A file
    of which fewer than two conversations have two turns is a DataError.
    """
    name = os.fspath(source)
    if name == "chitchat":
        parts: dict[str, list[list[str]]] = {"train": [], "validation": [], "test": []}
        for conversation in built_in_conversations():
            if len(conversation) > 1:
                parts[split_of(conversation)].append(conversation)
        return parts["train"], parts["validation"]
    read = read_self_dialogue if name.startswith(_SELF_DIALOGUE) else read_conversations
    # A conversation that is given twice must not be both trained on and held out.
    distinct = dict.fromkeys(tuple(conversation) for conversation in read(name.removeprefix(_SELF_DIALOGUE)))
    found = [list(conversation) for conversation in distinct if len(conversation) > 1]
    if len(found) < 2:
        raise DataError(
            f"{name}: {len(found)} distinct conversations of two turns or more; expected at least one to train on and "
            "one to validate on"
        )
    random.Random(seed).shuffle(found)
    held_out = max(1, len(found) // 10)
    return found[held_out:], found[:held_out]


def read_conversations(path: str | os.PathLike[str]) -> list[list[str]]:
    """Reads conversations, the turns of each oldest first. Errors begin with the file and the line number.

    The file is UTF-8, plain or gzipped. In a ``.jsonl``, ``.ndjson`` or ``.json`` file (before ``.gz``), each line is a
    JSON list of turns or an object with a list ``turns``; its other fields are not read. In any other file, each line
    is a turn, and a blank line ends a conversation.
    """
    path = Path(path)
    empty = "no conversations: the file is empty"
    if suffix(path) in JSON_SUFFIXES:
        return parsed(path, numbered_lines(path), lambda line: _turns(parse_json(line)), empty)
    lines = [line.strip() for _, line in numbered_lines(path, blank=True)]
    conversations = [list(turns) for is_turn, turns in groupby(lines, bool) if is_turn]
    if not conversations:
        raise DataError(f"{path}: {empty}")
    return conversations


def _turns(record: Any) -> list[str]:
    turns = record.get("turns") if isinstance(record, dict) else record
    if not isinstance(turns, list) or not turns:
        raise DataError(f'expected a list of turns, or {{"turns": [...]}}, given {shortened(record)}')
    for number, turn in enumerate(turns, start=1):
        check_text(f"turn {number} of {len(turns)}", turn)
    return turns
