"""Reads dialogues in numbered lines, ``1 what is said<tab>reply<tab>reward<tab>a|b``: bAbI, ConvAI2 and PersonaChat."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import item, located, nothing_left, number_left_out, numbered_lines, parsed
from polyencoders.data.sources import Conversations, Source, Split, read_splits, split_file
from polyencoders.errors import DataError

_BABI: dict[Split, list[str]] = {"train": ["*-trn.txt"], "validation": ["*-dev.txt"], "test": ["*-tst.txt"]}
_CONVAI2: dict[Split, list[str]] = {
    "train": ["train_self_original.txt", "train_both_original.txt", "train*.txt"],
    "validation": ["valid_self_original.txt", "valid_both_original.txt", "valid*.txt"],
    "test": ["test_self_original.txt", "test_both_original.txt", "test*.txt"],
}
_LINE = re.compile(r"(\d+) (.*)", re.DOTALL)
_PERSONA = re.compile(r"(your|partner's) persona: ")


def read_babi(path: str | os.PathLike[str]) -> list[Example]:
    """Reads bAbI dialogue (Bordes et al., ICLR 2017; task 6 is DSTC2): each turn of the system is an example.

    `path` holds numbered lines, ``1 what the user says<tab>what the system says``. Lines without a tab, such as
    ``3 prezzo R_cuisine italian``, are facts that the system was told, and are left out.

    Examples are in the file's order. The query is everything said so far, with ``<SILENCE>`` for a user who says
    nothing. There are no candidates: all examples rank one list, which `load_examples` reads. A DataError names the
    file and the line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "dialog-babi-task6-dstc2-trn.txt")
    >>> _ = path.write_text("1 <SILENCE>\\tHello!\\n2 italian please\\tapi_call italian\\n3 prezzo R_price cheap\\n")
    >>> read_babi(path)[1].query
    ('<SILENCE>', 'Hello!', 'italian please')
    """
    return Source.of(_dialogues(Path(path), _is_said_in_babi)).examples


def read_convai2(path: str | os.PathLike[str]) -> list[Example]:
    """Reads ConvAI2 or PersonaChat (Zhang et al., ACL 2018): every reply is an example.

    `path` holds numbered lines: first ``1 your persona: i like to ski.`` (and ``partner's persona: ...``), then
    ``6 what is said<tab>reply<tab><tab>candidate|candidate|...``.

    Examples are in the file's order. The query is the lines of the persona, then everything said so far. The candidates
    are in the file's order, the right one last. A DataError names the file and the line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "valid_self_original.txt")
    >>> _ = path.write_text("1 your persona: i ski.\\n2 hi !\\thello . do you ski ?\\t\\tno .|hello . do you ski ?\\n")
    >>> read_convai2(path)[0].query, read_convai2(path)[0].candidates
    (('your persona: i ski.', 'hi !'), ('no .', 'hello . do you ski ?'))
    """
    return Source.of(_dialogues(Path(path), _is_said_in_convai2)).examples


def babi_source(path: str, seed: int) -> Source:
    """``babi:PATH``: a folder with one task's files, its candidates among them, or a file of conversations."""
    listed = split_file(Path(path), ["*candidates.txt"])
    corpus = () if listed is None else _candidates(listed)
    found = read_splits(Path(path), _BABI, lambda file: Source.of(_dialogues(file, _is_said_in_babi)), seed)
    return replace(found, corpus=corpus)


def convai2_source(path: str, seed: int) -> Source:
    """``convai2:PATH``: a file, or a folder with one for training and one for validation, which is reported on."""
    return read_splits(Path(path), _CONVAI2, lambda file: Source.of(_dialogues(file, _is_said_in_convai2)), seed)


def _dialogues(path: Path, is_said: Callable[[list[str]], bool]) -> Conversations:
    """Reads dialogues; each reply is an example whose query is everything said before.

    A new dialogue begins where a line has the number 1. `is_said` gets the fields of a line, split at tabs. It raises a
    DataError when they are not of the format, and tells of a line without a reply whether it is part of the query.
    """
    conversations: Conversations = []
    said: list[str] = []
    last, before = 0, number_left_out()
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
            with item(f"{path}:{number}"):
                conversations[-1].append(Example([*said, fields[0]], fields[1], candidates=candidates))
        if kept:  # also where the reply is no example
            said += fields[:2]
    if not conversations or (not any(conversations) and number_left_out() > before):
        raise nothing_left(path, "no conversations: the file is empty", before)
    return conversations


def _is_said_in_babi(fields: list[str]) -> bool:
    if len(fields) > 2:
        raise DataError(f"{len(fields) - 1} tabs, expected one, between user and system")
    return len(fields) == 2


def _is_said_in_convai2(fields: list[str]) -> bool:
    if len(fields) == 1 and not _PERSONA.match(fields[0]):
        raise DataError(f"neither a persona (your persona: ...) nor a reply after a tab: {fields[0]!r}")
    return True


def _candidates(path: Path) -> tuple[str, ...]:
    """Reads the list that every query ranks: lines ``1 the reply``, 2,407 in task 6."""

    def reply(line: str) -> str:
        match = re.fullmatch(r"1 (.*\S.*)", line.rstrip("\r\n"))
        if match is None:
            raise DataError(f"expected 1, a space and a reply, given {shortened(line.strip())}")
        return match[1]

    return tuple(dict.fromkeys(parsed(path, numbered_lines(path), reply, "no candidates: the file is empty")))
