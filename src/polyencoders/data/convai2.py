"""ConvAI2 and PersonaChat: what somebody with a given persona says next, of twenty replies (Zhang et al., ACL 2018).

Knows ParlAI's files of it, such as ``train_self_original.txt``, in which the right answer is the last candidate.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from polyencoders.data.examples import Example
from polyencoders.data.numbered import numbered_conversations
from polyencoders.data.sides import Conversations, Side, Source, read_sides
from polyencoders.errors import DataError

_PERSONA = re.compile(r"(your|partner's) persona: ")

_NAMES: dict[Side, list[str]] = {
    "train": ["train_self_original.txt", "train_both_original.txt", "train*.txt"],
    "validation": ["valid_self_original.txt", "valid_both_original.txt", "valid*.txt"],
    "test": ["test_self_original.txt", "test_both_original.txt", "test*.txt"],
}


def read_convai2(path: str | os.PathLike[str]) -> list[Example]:
    """Reads ConvAI2 or PersonaChat: every reply is an example.

    Parameters
    ----------
    path
        Numbered lines: first ``1 your persona: i like to ski.`` (and ``partner's persona: ...``), then
        ``6 what is said<tab>reply<tab><tab>candidate|candidate|...``.

    Returns
    -------
    list of Example
        In the file's order. The query is the persona's lines, as they are, then everything said so far. Candidates are
        in the file's order.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used; the message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "valid_self_original.txt")
    >>> _ = path.write_text("1 your persona: i ski.\\n2 hi !\\thello . do you ski ?\\t\\tno .|hello . do you ski ?\\n")
    >>> read_convai2(path)[0].query, read_convai2(path)[0].candidates
    (('your persona: i ski.', 'hi !'), ('no .', 'hello . do you ski ?'))
    """
    return [example for conversation in _conversations(Path(path)) for example in conversation]


def source(path: str, seed: int) -> Source:
    """``convai2:PATH``: a file, or a folder with one for training and one for validation, which is reported on."""
    folder = Path(path)
    if not folder.is_dir():
        return Source.of(_conversations(folder))
    return read_sides(folder, _NAMES, lambda file: Source.of(_conversations(file)), seed)


def _conversations(path: Path) -> Conversations:
    conversations = []
    for lines in numbered_conversations(path):
        said: list[str] = []
        examples: list[Example] = []
        for number, fields in lines:
            try:
                if len(fields) == 1:
                    if not _PERSONA.match(fields[0]):
                        raise DataError(f"neither a persona (your persona: ...) nor a reply after a tab: {fields[0]!r}")
                    said.append(fields[0])
                    continue
                # Candidates are the fourth field; the third, a reward, is empty.
                listed = fields[3].split("|") if len(fields) > 3 and fields[3] else None
                examples.append(Example([*said, fields[0]], fields[1], candidates=listed))
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            said += fields[:2]
        conversations.append(examples)
    return conversations
