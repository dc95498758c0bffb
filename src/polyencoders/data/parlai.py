"""ParlAI's dialogue text: a turn a line, fields such as ``text:`` and ``labels:`` between tabs (Miller et al., 2017).

Knows what ParlAI writes with ``build_pytorch_data`` and ``convert_data_to_parlai_format``; its older numbered lines are
in ``numbered.py``.
"""

from __future__ import annotations

import os
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.data.sides import Conversations, Side, Source, read_sides
from polyencoders.errors import DataError

_NAMES: dict[Side, list[str]] = {
    "train": ["*train*.txt"],
    "validation": ["*valid*.txt", "*dev*.txt"],
    "test": ["*test*.txt"],
}


def read_parlai(path: str | os.PathLike[str]) -> list[Example]:
    """Reads ParlAI's dialogue text: every turn that has labels is an example.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped. A line is ``text:Hi!<tab>labels:Hello.|Hi there.<tab>label_candidates:No.|Hello.``;
        the last of a conversation ends with ``<tab>episode_done:True``. Within a field, ``\\n`` is a line break, ``|``
        stands between several texts, and ``__PIPE__`` is a ``|``. ``eval_labels`` are labels, too; other fields are not
        read.

    Returns
    -------
    list of Example
        In the file's order. The query is everything said so far, of the answers the first label; a text of several
        lines, such as a persona before what is said, is a turn a line. Labels are the positives, candidates are in the
        file's order.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used; the message begins with the file and the line number.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "train.txt")
    >>> _ = path.write_text("text:Hi!\\tlabels:Hello.\\ntext:Tea?\\tlabels:Yes.|Please.\\tepisode_done:True\\n")
    >>> read_parlai(path)[1]
    Example(query=('Hi!', 'Hello.', 'Tea?'), positives=('Yes.', 'Please.'), negatives=(), candidates=None)
    """
    return [example for conversation in _conversations(Path(path)) for example in conversation]


def source(path: str, seed: int) -> Source:
    """``parlai:PATH``: a file, or a folder with files for training, validation and test."""
    folder = Path(path)
    if not folder.is_dir():
        return Source.of(_conversations(folder))
    return read_sides(folder, _NAMES, lambda file: Source.of(_conversations(file)), seed)


def _conversations(path: Path) -> Conversations:
    conversations: Conversations = [[]]
    said: list[str] = []
    for number, line in numbered_lines(path):
        try:
            fields = _fields(line.rstrip("\r\n"))
            said += [turn for turn in _unescaped(fields.get("text", "")).split("\n") if turn.strip()]
            labels = _texts(fields.get("labels") or fields.get("eval_labels") or "")
            if labels:
                listed = _texts(fields.get("label_candidates", ""))
                conversations[-1].append(Example(said, labels, candidates=listed or None))
                said.append(labels[0])
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        if fields.get("episode_done", "").strip() == "True":
            conversations.append([])
            said = []
    if not any(conversations):
        raise DataError(f"{path}: no line has labels: expected text:...<tab>labels:...")
    return [examples for examples in conversations if examples]


def _fields(line: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in line.split("\t"):
        name, colon, value = part.partition(":")
        if not colon:
            raise DataError(f"expected fields such as text:... and labels:... between tabs, given {shortened(part)}")
        if name in fields:
            raise DataError(f"the field {shortened(name)} is given twice")
        fields[name] = value
    return fields


def _texts(value: str) -> list[str]:
    return [_unescaped(text) for text in value.split("|")] if value else []


def _unescaped(text: str) -> str:
    return text.replace("\\t", "\t").replace("\\n", "\n").replace("__PIPE__", "|")
