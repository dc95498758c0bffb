"""Reads dialogues in numbered lines, as bAbI and ConvAI2 have them: ``1 what is said<tab>reply<tab>reward<tab>a|b``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import located, numbered_lines
from polyencoders.data.sources import Conversations
from polyencoders.errors import DataError

_LINE = re.compile(r"(\d+) (.*)", re.DOTALL)


def numbered_dialogues(path: Path, is_said: Callable[[list[str]], bool]) -> Conversations:
    """Reads dialogues; each reply is an example whose query is everything said before.

    A new dialogue begins where a line has the number 1. `is_said` gets the fields of a line, split at tabs. It raises a
    DataError when they are not of the format, and tells of a line without a reply whether it is part of the query.
    """
    conversations: Conversations = []
    said: list[str] = []
    last = 0
    for number, line in numbered_lines(path):
        with located(f"{path}:{number}"):
            match = _LINE.match(line.rstrip("\r\n"))
            if match is None:
                raise DataError(
                    "expected a line that begins with its number in the conversation, a space and text, "
                    f"given {shortened(line.strip())}"
                )
            current = int(match[1])
            if current == 1:
                conversations.append([])
                said = []
            elif current != last + 1:
                raise DataError(f"numbered {current}, expected {last + 1}, or 1 for a new conversation")
            last = current
            fields = match[2].split("\t")
            kept = is_said(fields)
            if len(fields) > 1:
                candidates = fields[3].split("|") if len(fields) > 3 and fields[3] else None
                conversations[-1].append(Example([*said, fields[0]], fields[1], candidates=candidates))
            if kept:
                said += fields[:2]
    if not conversations:
        raise DataError(f"{path}: no conversations: the file is empty")
    return conversations
