"""Conversations in numbered lines, the older of ParlAI's formats: ``1 what is said<tab>reply<tab>reward<tab>a|b|c``.

Knows how lines become conversations; what they hold is for ``babi.py`` and ``convai2.py`` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from polyencoders.data.examples import shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.errors import DataError

_LINE = re.compile(r"(\d+) (.*)", re.DOTALL)


def numbered_conversations(path: Path) -> Iterator[list[tuple[int, list[str]]]]:
    """Each conversation as its lines: the line's number in the file, and its fields, split at tabs.

    A new conversation begins where a line has the number 1 again.

    Raises
    ------
    DataError
        When a line has no number, or not the one that follows, or the file has no lines.
    """
    lines: list[tuple[int, list[str]]] = []
    last = 0
    for number, line in numbered_lines(path):
        match = _LINE.match(line.rstrip("\r\n"))
        if match is None:
            raise DataError(
                f"{path}:{number}: expected a line that begins with its number in the conversation, a space and text, "
                f"given {shortened(line.strip())}"
            )
        current = int(match[1])
        if current == 1:
            if lines:
                yield lines
            lines = []
        elif current != last + 1:
            raise DataError(f"{path}:{number}: numbered {current}, expected {last + 1}, or 1 for a new conversation")
        last = current
        lines.append((number, match[2].split("\t")))
    if not lines:
        raise DataError(f"{path}: no conversations: the file is empty")
    yield lines
