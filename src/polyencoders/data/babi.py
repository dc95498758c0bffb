"""Reads bAbI dialogue, of which task 6 is DSTC2: what a restaurant system says next (Bordes et al., ICLR 2017)."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.data.numbered_dialogues import numbered_dialogues
from polyencoders.data.sources import Source, Split, read_splits, split_file
from polyencoders.errors import DataError

_NAMES: dict[Split, list[str]] = {"train": ["*-trn.txt"], "validation": ["*-dev.txt"], "test": ["*-tst.txt"]}


def read_babi(path: str | os.PathLike[str]) -> list[Example]:
    """Reads bAbI dialogue: every turn of the system is an example.

    Parameters
    ----------
    path
        Numbered lines, ``1 what the user says<tab>what the system says``. Lines without a tab, such as
        ``3 prezzo R_cuisine italian``, are facts that the system was told, and are left out.

    Returns
    -------
    list of Example
        In the file's order. The query is everything said so far. ``<SILENCE>``, which stands for a user who says
        nothing, is kept, as there is nothing else before the system's first turn. There are no candidates: all
        examples rank one list, which `read_babi_candidates` reads.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used. The message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "dialog-babi-task6-dstc2-trn.txt")
    >>> _ = path.write_text("1 <SILENCE>\\tHello!\\n2 italian please\\tapi_call italian\\n3 prezzo R_price cheap\\n")
    >>> read_babi(path)[1].query
    ('<SILENCE>', 'Hello!', 'italian please')
    """
    return _read(Path(path)).examples


def read_babi_candidates(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads the list that every query ranks, 2,407 replies in task 6.

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
    listed = split_file(Path(path), ["*candidates.txt"])
    corpus = () if listed is None else read_babi_candidates(listed)
    return replace(read_splits(Path(path), _NAMES, _read, seed), corpus=corpus)


def _read(path: Path) -> Source:
    return Source.of(numbered_dialogues(path, _is_said))


def _is_said(fields: list[str]) -> bool:
    if len(fields) > 2:
        raise DataError(f"{len(fields) - 1} tabs, expected one, between user and system")
    return len(fields) == 2
