"""Reads bAbI dialogue, of which task 6 is DSTC2: what a restaurant system says next (Bordes et al., ICLR 2017)."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines, parsed
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
        examples rank one list, which `load_examples` reads.

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


def source(path: str, seed: int) -> Source:
    """``babi:PATH``: a folder with one task's files, its candidates among them, or a file of conversations."""
    listed = split_file(Path(path), ["*candidates.txt"])
    corpus = () if listed is None else _candidates(listed)
    return replace(read_splits(Path(path), _NAMES, _read, seed), corpus=corpus)


def _read(path: Path) -> Source:
    return Source.of(numbered_dialogues(path, _is_said))


def _is_said(fields: list[str]) -> bool:
    if len(fields) > 2:
        raise DataError(f"{len(fields) - 1} tabs, expected one, between user and system")
    return len(fields) == 2


def _candidates(path: Path) -> tuple[str, ...]:
    """Reads the list that every query ranks: lines ``1 the reply``, 2,407 in task 6."""

    def reply(line: str) -> str:
        match = re.fullmatch(r"1 (.*\S.*)", line.rstrip("\r\n"))
        if match is None:
            raise DataError(f"expected 1, a space and a reply, given {shortened(line.strip())}")
        return match[1]

    return tuple(dict.fromkeys(parsed(path, numbered_lines(path), reply, "no candidates: the file is empty")))
