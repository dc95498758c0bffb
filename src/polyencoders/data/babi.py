"""bAbI dialogue, of which task 6 is DSTC2: what the restaurant system says next (Bordes, Boureau, Weston, ICLR 2017).

Every query ranks the same list, a file of its own: 2,407 replies in task 6.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.data.numbered import numbered_conversations
from polyencoders.data.sides import Conversations, Side, Source, read_sides, side_file
from polyencoders.errors import DataError

_NAMES: dict[Side, list[str]] = {"train": ["*-trn.txt"], "validation": ["*-dev.txt"], "test": ["*-tst.txt"]}


def read_babi(path: str | os.PathLike[str]) -> list[Example]:
    """Reads bAbI dialogue: every turn of the system is an example.

    Parameters
    ----------
    path
        Numbered lines, ``1 what the user says<tab>what the system says``; lines without a tab, such as
        ``3 prezzo R_cuisine italian``, are facts that the system was told, and are left out.

    Returns
    -------
    list of Example
        In the file's order. The query is everything said so far; ``<SILENCE>``, which stands for a user who says
        nothing, is kept: it is all there is before the system's first turn. There are no candidates: all examples rank
        one list, which `read_babi_candidates` reads.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used; the message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "dialog-babi-task6-dstc2-trn.txt")
    >>> _ = path.write_text("1 <SILENCE>\\tHello!\\n2 italian please\\tapi_call italian\\n3 prezzo R_price cheap\\n")
    >>> read_babi(path)[1].query
    ('<SILENCE>', 'Hello!', 'italian please')
    """
    return [example for conversation in _conversations(Path(path)) for example in conversation]


def read_babi_candidates(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the list that every query ranks.

    Parameters
    ----------
    path
        A file such as ``dialog-babi-task6-dstc2-candidates.txt``: lines ``1 the reply``.

    Returns
    -------
    tuple of str
        In the file's order, each text once.

    Raises
    ------
    DataError
        When a line is not as above, or there are none.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "candidates.txt")
    >>> _ = path.write_text("1 Hello!\\n1 api_call italian\\n")
    >>> read_babi_candidates(path)
    ('Hello!', 'api_call italian')
    """
    path = Path(path)
    texts: dict[str, None] = {}
    for number, line in numbered_lines(path):
        match = re.fullmatch(r"1 (.*\S.*)", line.rstrip("\r\n"))
        if match is None:
            raise DataError(f"{path}:{number}: expected 1, a space and a reply, given {shortened(line.strip())}")
        texts[match[1]] = None
    if not texts:
        raise DataError(f"{path}: no candidates: the file is empty")
    return tuple(texts)


def source(path: str, seed: int) -> Source:
    """``babi:PATH``: a folder with one task's files, its candidates among them, or a file of conversations."""
    folder = Path(path)
    if not folder.is_dir():
        return Source.of(_conversations(folder))
    listed = side_file(folder, ["*candidates.txt"])
    corpus = () if listed is None else read_babi_candidates(listed)
    return read_sides(folder, _NAMES, lambda file: Source.of(_conversations(file)), seed, corpus)


def _conversations(path: Path) -> Conversations:
    conversations = []
    for lines in numbered_conversations(path):
        said: list[str] = []
        examples = []
        for number, fields in lines:
            if len(fields) == 1:
                continue
            if len(fields) > 2:
                raise DataError(f"{path}:{number}: {len(fields) - 1} tabs, expected one, between user and system")
            try:
                examples.append(Example([*said, fields[0]], fields[1]))
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            said += fields
        conversations.append(examples)
    return conversations
