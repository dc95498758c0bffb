"""Reads dialogues in JSON, each with a list of answers to rank: DailyDialog++, DSTC7, MuTual and MuTual+."""

import os
import re
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import (
    check_fields,
    check_list,
    check_object,
    item,
    json_lines,
    located,
    nothing_left,
    number_left_out,
    numbered,
    numbered_lines,
    parsed,
    read_json,
)
from polyencoders.data.sources import Source, Split, read_splits, split_file, with_validation
from polyencoders.errors import DataError

Wrong = Literal["adversarial", "random"]

_DSTC7: dict[Split, list[str]] = {
    "train": ["*_train_subtask_1.json", "*_train_*.json"],
    "validation": ["*_dev_subtask_1.json", "*_dev_*.json"],
    "test": ["*_test_subtask_1.json", "*_test_*.json"],
}
# "m ; f :" is two people speaking at once: one turn.
_TURN = re.compile(r"(?<!;)\s+(?=[mf] ?:)", re.IGNORECASE)


def read_dailydialogpp(path: str | os.PathLike[str], against: Wrong = "adversarial") -> list[Example]:
    """Reads DailyDialog++: right, adversarial and random answers to a conversation (Sai et al., 2020).

    `path` holds JSON Lines, plain or gzipped: ``context`` (the turns), ``positive_responses``, and in all but
    ``data_positives.json`` ``adversarial_negative_responses`` and ``random_negative_responses``. `against` says
    which wrong answers are ranked and trained with: adversarial ones, which share words with the context, or random
    ones.

    Examples are in the file's order. All right answers are positives. The candidates are the wrong answers and one
    right one, as R@1/6 needs: the first right answer of the first line, the second of the second, and so on. Where the
    file has no wrong answers there are no candidates. A DataError names the file and the line.

    >>> import json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "dev.json")
    >>> _ = path.write_text(json.dumps({"id": 0, "context": ["Tea?"], "positive_responses": ["Please."],
    ...     "adversarial_negative_responses": ["Tea is a drink."], "random_negative_responses": ["On Monday."]}))
    >>> read_dailydialogpp(path)[0].candidates, read_dailydialogpp(path, against="random")[0].candidates
    (('Please.', 'Tea is a drink.'), ('Please.', 'On Monday.'))
    """
    path = Path(path)
    numbers, wrong = count(), f"{against}_negative_responses"
    return json_lines(path, lambda record: _dailydialogpp_example(record, wrong, next(numbers)))


def _dailydialogpp(path: str, seed: int, against: Wrong) -> Source:
    folder = Path(path)
    if not folder.is_dir():
        return Source(read_dailydialogpp(folder, against))
    # data_positives.json has further contexts to train on, with right answers alone.
    files = [file for file in (folder / "train.json", folder / "data_positives.json") if file.exists()]
    if not files:
        raise DataError(f"{folder}: no training data, expected train.json or data_positives.json")
    train = Source([example for file in files for example in read_dailydialogpp(file, against)])
    validation, test = (read_dailydialogpp(folder / name, against) for name in ("dev.json", "test.json"))
    return with_validation(folder, train, validation, test, seed)


dailydialogpp_source = partial(_dailydialogpp, against="adversarial")
"""``dailydialog++:PATH``: the folder ``dataset``, or one of its files, against adversarial answers."""
dailydialogpp_random_source = partial(_dailydialogpp, against="random")
"""``dailydialog++-random:PATH``: the same, against random answers."""


def _dailydialogpp_example(record: Any, wrong: str, number: int) -> Example:
    check_object(record, "context and positive_responses")
    for name in ("context", "positive_responses"):
        check_fields(record, name)
        check_list(name, record[name], "texts")
    right = record["positive_responses"]
    if wrong not in record:
        return Example(record["context"], right)
    check_list(wrong, record[wrong], "texts", empty=True)
    negatives = [text for text in record[wrong] if text not in right]
    return Example(record["context"], right, negatives, [right[number % len(right)], *negatives])


def read_dstc7(path: str | os.PathLike[str], answers: str | os.PathLike[str] | None = None) -> list[Example]:
    """Reads DSTC7, track 1, subtask 1: what is said next, of a hundred utterances (Gunasekara et al., 2019).

    `path` holds a JSON list, plain or gzipped: ``{"example-id": 7, "messages-so-far": [{"speaker": "participant_1",
    "utterance": "..."}, ...], "options-for-next": [{"candidate-id": "AB12", "utterance": "..."}, ...],
    "options-for-correct-answers": [{"candidate-id": "AB12", "utterance": "..."}]}``. `answers` is a file for the test
    split, which was published without correct answers: lines ``7<tab>AB12<tab>...``, such as
    ``ubuntu_responses_subtask_1.tsv``.

    Examples are in the file's order. Each message is a turn of the query. The options are the candidates, in their
    order. A DataError names the file and the dialogue.

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
    return parsed(path, rows, lambda record: _dstc7_example(record, correct), "no dialogues: the list is empty")


def dstc7_source(path: str, seed: int) -> Source:
    """``dstc7:PATH``: a file, or a folder with ``ubuntu_train_subtask_1.json`` and the like, and the test's answers."""
    answers = split_file(Path(path), ["*responses*subtask_1.tsv", "*responses*.tsv"])

    def read(file: Path) -> Source:
        return Source(read_dstc7(file, answers if "_test_" in file.name else None))

    return read_splits(Path(path), _DSTC7, read, seed)


def _dstc7_example(record: Any, correct: dict[str, list[str]] | None) -> Example:
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


def read_mutual(path: str | os.PathLike[str]) -> list[Example]:
    """Reads one split of MuTual: what is said next in a listening test, of four (Cui et al., ACL 2020).

    `path` is a folder such as ``data/mutual/dev`` (the answers of the test split are not public). Every ``.txt`` in it
    is a question: ``{"answers": "B", "options": ["m : ...", ...], "article": "f : ... m : ...", "id": "dev_1"}``.

    Examples are ordered by the numbers of the files. The query is the article's turns, each with its speaker, as the
    options have it. The options are the candidates, in their order. The wrong ones, written to mislead, are negatives
    to train with. A DataError names the file.

    >>> import json, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> question = {"answers": "A", "options": ["f : tea .", "f : no ."], "article": "f : hi . m : what ?", "id": "1"}
    >>> _ = (folder / "dev_1.txt").write_text(json.dumps(question))
    >>> read_mutual(folder)[0].query, read_mutual(folder)[0].positives
    (('f : hi .', 'm : what ?'), ('f : tea .',))
    """
    folder = Path(path)
    if not folder.is_dir():
        given = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {given}, expected a folder of questions")
    files = sorted(folder.glob("*.txt"), key=lambda file: [int(digits) for digits in re.findall(r"\d+", file.stem)])
    if not files:
        raise DataError(f"{folder}: no questions, expected files such as dev_1.txt")
    examples, before = [], number_left_out()
    for file in files:
        with item():
            record = read_json(file)
            with located(file):
                examples.append(_mutual_example(record))
    if not examples:
        raise nothing_left(folder, "no questions", before)
    return examples


def mutual_source(path: str, seed: int) -> Source:
    """``mutual:PATH``: the folder with ``train`` and ``dev`` in it, or one of them."""
    folder = Path(path)
    if not (folder / "train").is_dir():
        return _by_article(folder)
    return with_validation(folder / "train", _by_article(folder / "train"), read_mutual(folder / "dev"), None, seed)


def _by_article(folder: Path) -> Source:
    """Keeps questions about one article together. They begin alike, and end where the question is asked."""
    articles: dict[str, list[Example]] = {}
    for example in read_mutual(folder):
        articles.setdefault(" ".join(example.query)[:60], []).append(example)
    return Source.of(list(articles.values()))


def _mutual_example(record: Any) -> Example:
    check_object(record, "article, options and answers")
    check_fields(record, "article", "options", "answers")
    article, options, answer = record["article"], record["options"], record["answers"]
    if not isinstance(article, str):
        raise DataError(f"article: expected text, given {shortened(article)}")
    check_list("options", options, "texts")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        blank = " (the test split's answers are not public)" if answer == " " else ""
        raise DataError(f"answers: expected one letter of {letters}, given {shortened(answer)}{blank}")
    right = options[letters.index(answer)]
    wrong = [option for option in options if option != right]
    return Example(_TURN.split(article.strip()), right, wrong, candidates=options)
