"""Reads DSTC7, track 1, sentence selection: what is said next, of a hundred utterances (Gunasekara et al., 2019)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import check_list, check_object, numbered, numbered_lines, parsed, read_json
from polyencoders.data.sources import Source, Split, read_splits, split_file
from polyencoders.errors import DataError

_NAMES: dict[Split, list[str]] = {
    "train": ["*_train_subtask_1.json", "*_train_*.json"],
    "validation": ["*_dev_subtask_1.json", "*_dev_*.json"],
    "test": ["*_test_subtask_1.json", "*_test_*.json"],
}


def read_dstc7(path: str | os.PathLike[str], answers: str | os.PathLike[str] | None = None) -> list[Example]:
    """Reads subtask 1, on Ubuntu's chat or the student advisers'. A DataError names the file and the dialogue.

    Parameters
    ----------
    path
        A JSON list, plain or gzipped: ``{"example-id": 7, "messages-so-far": [{"speaker": "participant_1",
        "utterance": "..."}, ...], "options-for-next": [{"candidate-id": "AB12", "utterance": "..."}, ...],
        "options-for-correct-answers": [{"candidate-id": "AB12", "utterance": "..."}]}``.
    answers
        For the test split, which was published without correct answers, a file of lines ``7<tab>AB12<tab>...``, such
        as ``ubuntu_responses_subtask_1.tsv``.

    Returns
    -------
    list of Example
        In the file's order. Each message is a turn of the query. The options are the candidates, in their order.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "ubuntu_dev_subtask_1.json")
    >>> options = [{"candidate-id": "A", "utterance": "which one ?"}, {"candidate-id": "B", "utterance": "bye"}]
    >>> _ = path.write_text(json.dumps([{"example-id": 1, "options-for-next": options, "messages-so-far":
    ...     [{"speaker": "participant_1", "utterance": "no sound"}], "options-for-correct-answers": options[:1]}]))
    >>> read_dstc7(path)
    [Example(query=('no sound',), positives=('which one ?',), negatives=(), candidates=('which one ?', 'bye'))]
    """
    path = Path(path)
    correct = None if answers is None else _answers(Path(answers))
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of dialogues, given {shortened(records)}")
    rows = numbered("dialogue", records)
    return parsed(path, rows, lambda record: _example(record, correct), "no dialogues: the list is empty")


def source(path: str, seed: int) -> Source:
    """``dstc7:PATH``: a file, or a folder with ``ubuntu_train_subtask_1.json`` and the like, and the test's answers."""
    answers = split_file(Path(path), ["*responses*subtask_1.tsv", "*responses*.tsv"])

    def read(file: Path) -> Source:
        return Source(read_dstc7(file, answers if "_test_" in file.name else None))

    return read_splits(Path(path), _NAMES, read, seed)


def _example(record: Any, correct: dict[str, list[str]] | None) -> Example:
    check_object(record, "messages-so-far and options-for-next")
    turns = [utterance for _, utterance in _utterances(record, "messages-so-far", identity="speaker")]
    options = _utterances(record, "options-for-next", identity="candidate-id")
    if correct is None:
        if not record.get("options-for-correct-answers"):
            raise DataError('no "options-for-correct-answers": the test split needs its file of answers (answers=...)')
        right = [text for _, text in _utterances(record, "options-for-correct-answers", identity="candidate-id")]
    else:
        identity = str(record.get("example-id"))
        if identity not in correct:
            raise DataError(f"no answer to the example-id {identity} in the file of answers")
        right = [text for candidate, text in options if candidate in correct[identity]]
        if not right:
            raise DataError(f"none of the options is the answer to the example-id {identity}, {correct[identity]}")
    return Example(turns, right, candidates=[text for _, text in options])


def _utterances(record: dict[str, Any], name: str, identity: str) -> list[tuple[str, str]]:
    listed: Any = record.get(name)
    check_list(name, listed, "utterances")
    for number, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("utterance"), str):
            raise DataError(
                f'{name}, {number} of {len(listed)}: expected {{"{identity}": ..., "utterance": "..."}}, '
                f"given {shortened(entry)}"
            )
    return [(str(entry.get(identity)), entry["utterance"]) for entry in listed]


def _answers(path: Path) -> dict[str, list[str]]:
    answers: dict[str, list[str]] = {}
    for number, line in numbered_lines(path):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) < 2:
            given = shortened(line)
            raise DataError(f"{path}:{number}: expected an example-id, a tab and a candidate-id, given {given}")
        answers.setdefault(fields[0].strip(), []).append(fields[1].strip())
    return answers
