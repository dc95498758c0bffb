"""Reads DailyDialog++: five right, five adversarial and five random answers to a conversation (Sai et al., 2020)."""

from __future__ import annotations

import os
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

from polyencoders.data.examples import Example
from polyencoders.data.lines import check_fields, check_list, check_object, numbered_lines, parse_json, parsed
from polyencoders.data.sources import Source, with_validation
from polyencoders.errors import DataError

Wrong = Literal["adversarial", "random"]


def read_dailydialogpp(path: str | os.PathLike[str], against: Wrong = "adversarial") -> list[Example]:
    """Reads a file of DailyDialog++. A DataError names the file and the line.

    Parameters
    ----------
    path
        JSON Lines, plain or gzipped: ``context`` (the turns), ``positive_responses``, and in all but
        ``data_positives.json`` ``adversarial_negative_responses`` and ``random_negative_responses``.
    against
        Which wrong answers are ranked and trained with: adversarial ones, which share words with the context, or
        random ones.

    Returns
    -------
    list of Example
        In the file's order. All right answers are positives. The candidates are the wrong answers and one right one,
        as R@1/6 needs: the first right answer of the first line, the second of the second, and so on. Where the file
        has no wrong answers there are no candidates.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "dev.json")
    >>> _ = path.write_text(json.dumps({"id": 0, "context": ["Tea?"], "positive_responses": ["Please."],
    ...     "adversarial_negative_responses": ["Tea is a drink."], "random_negative_responses": ["On Monday."]}))
    >>> read_dailydialogpp(path)[0].candidates, read_dailydialogpp(path, against="random")[0].candidates
    (('Please.', 'Tea is a drink.'), ('Please.', 'On Monday.'))
    """
    path = Path(path)
    wrong, numbers = f"{against}_negative_responses", count()
    empty = "no examples: the file is empty, expected one JSON object a line"
    return parsed(path, numbered_lines(path), lambda line: _example(parse_json(line), wrong, next(numbers)), empty)


def _source(path: str, seed: int, against: Wrong) -> Source:
    folder = Path(path)
    if not folder.is_dir():
        return Source(read_dailydialogpp(folder, against))
    # data_positives.json has further contexts to train on, with right answers alone.
    files = [file for file in (folder / "train.json", folder / "data_positives.json") if file.exists()]
    if not files:
        raise DataError(f"{folder}: no training data, expected train.json or data_positives.json")
    train = Source([example for file in files for example in read_dailydialogpp(file, against)])
    validation, test = (read_dailydialogpp(folder / name, against) for name in ("dev.json", "test.json"))
    return with_validation(train, validation, test, seed)


source = partial(_source, against="adversarial")
"""``dailydialog++:PATH``: the folder ``dataset``, or one of its files, against adversarial answers."""
source_random = partial(_source, against="random")
"""``dailydialog++-random:PATH``: the same, against random answers."""


def _example(record: Any, wrong: str, number: int) -> Example:
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
