"""Reads conversations without labels: files, the Self-dialogue Corpus, and what is held out of them to pre-train."""

import os
import random
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from polyencoders.data.chitchat import conversations as built_in_conversations
from polyencoders.data.chitchat import split_of
from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import JSON_SUFFIXES, numbered_lines, parse_json, parsed, suffix
from polyencoders.data.sources import Source, turns_as_examples
from polyencoders.data.tables import named_rows
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
        talks = [conversation for conversation in built_in_conversations() if len(conversation) > 1]
        train, validation = ([talk for talk in talks if split_of(talk) == split] for split in ("train", "validation"))
        return train, validation
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


def read_self_dialogue(path: str | os.PathLike[str]) -> list[list[str]]:
    """Reads the Self-dialogue Corpus: 24,249 conversations, each written by one person (Fainberg et al., 2018).

    `path` is the folder ``corpus``, which has a folder of CSV tables for each topic; a topic's folder; or a table. A
    row is a conversation, its turns in the columns ``Answer.sentence1``, ``Answer.sentence2`` and so on. Some are
    empty.

    Returns each conversation's turns, oldest first, with white space normalised, in the order of the files' names and
    rows. A DataError names the file and the line.

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
    return [conversation for table in tables for conversation in _self_dialogues(table)]


def self_dialogue_source(path: str, seed: int) -> Source:
    """``self-dialogue:PATH``: what `read_self_dialogue` takes. The three turns before are the query."""
    return Source.of(turns_as_examples(read_self_dialogue(path)))


def _self_dialogues(path: Path) -> list[list[str]]:
    rows = [row for _, row in named_rows(path)]
    if not rows:
        raise DataError(f"{path}: no conversations: the file is empty, or has only a header")
    numbers = {name: int(match[1]) for name in rows[0] if (match := re.fullmatch(r"Answer\.sentence(\d+)", name))}
    if not numbers:
        raise DataError(f"{path}:1: no columns Answer.sentence1, Answer.sentence2, ...; given only {list(rows[0])[:3]}")
    columns = sorted(numbers, key=numbers.__getitem__)
    return [[text for name in columns if (text := " ".join(row[name].split()))] for row in rows]


def _turns(record: Any) -> list[str]:
    turns = record.get("turns") if isinstance(record, dict) else record
    if not isinstance(turns, list) or not turns:
        raise DataError(f'expected a list of turns, or {{"turns": [...]}}, given {shortened(record)}')
    for number, turn in enumerate(turns, start=1):
        check_text(f"turn {number} of {len(turns)}", turn)
    return turns
