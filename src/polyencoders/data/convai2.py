"""Reads ConvAI2 and PersonaChat: what a person with a given persona says next, of twenty replies."""

from __future__ import annotations

import os
import re
from pathlib import Path

from polyencoders.data.examples import Example
from polyencoders.data.numbered_dialogues import numbered_dialogues
from polyencoders.data.sources import Source, Split, read_splits
from polyencoders.errors import DataError

_PERSONA = re.compile(r"(your|partner's) persona: ")

_NAMES: dict[Split, list[str]] = {
    "train": ["train_self_original.txt", "train_both_original.txt", "train*.txt"],
    "validation": ["valid_self_original.txt", "valid_both_original.txt", "valid*.txt"],
    "test": ["test_self_original.txt", "test_both_original.txt", "test*.txt"],
}


def read_convai2(path: str | os.PathLike[str]) -> list[Example]:
    """Reads ConvAI2 or PersonaChat (Zhang et al., ACL 2018): every reply is an example.

    Parameters
    ----------
    path
        Numbered lines: first ``1 your persona: i like to ski.`` (and ``partner's persona: ...``), then
        ``6 what is said<tab>reply<tab><tab>candidate|candidate|...``.

    Returns
    -------
    list of Example
        In the file's order. The query is the lines of the persona, as they are, then everything said so far. The
        candidates are in the file's order, the right one last.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used. The message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "valid_self_original.txt")
    >>> _ = path.write_text("1 your persona: i ski.\\n2 hi !\\thello . do you ski ?\\t\\tno .|hello . do you ski ?\\n")
    >>> read_convai2(path)[0].query, read_convai2(path)[0].candidates
    (('your persona: i ski.', 'hi !'), ('no .', 'hello . do you ski ?'))
    """
    return _read(Path(path)).examples


def source(path: str, seed: int) -> Source:
    """``convai2:PATH``: a file, or a folder with one for training and one for validation, which is reported on."""
    return read_splits(Path(path), _NAMES, _read, seed)


def _read(path: Path) -> Source:
    return Source.of(numbered_dialogues(path, _is_said))


def _is_said(fields: list[str]) -> bool:
    if len(fields) == 1 and not _PERSONA.match(fields[0]):
        raise DataError(f"neither a persona (your persona: ...) nor a reply after a tab: {fields[0]!r}")
    return True
