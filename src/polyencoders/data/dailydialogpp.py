"""DailyDialog++: five right, five adversarial and five random answers to a conversation (Sai et al., TACL 2020).

Knows the JSON Lines of https://github.com/iitmnlp/DailyDialog-plusplus.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import numbered_lines, parse_json
from polyencoders.data.sides import Source, with_validation
from polyencoders.errors import DataError

Wrong = Literal["adversarial", "random"]


def read_dailydialogpp(path: str | os.PathLike[str], against: Wrong = "adversarial") -> list[Example]:
    """Reads DailyDialog++.

    Parameters
    ----------
    path
        JSON Lines, plain or gzipped: ``context`` (the turns), ``positive_responses``, and in all but
        ``data_positives.json`` ``adversarial_negative_responses`` and ``random_negative_responses``.
    against
        Which wrong answers are ranked, and are the negatives to train with: the adversarial ones, which share words
        with the context, or random ones.

    Returns
    -------
    list of Example
        In the file's order. All right answers are positives. The candidates are the wrong answers and one right one,
        as `R@1/6` wants it: the first of the first line, the second of the second, and so on, as there are five. Where
        the file has no wrong answers there are no candidates.

    Raises
    ------
    DataError
        When the file or one of its lines cannot be used; the message begins with the file and the line number.

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
    examples: list[Example] = []
    for number, line in numbered_lines(path):
        try:
            examples.append(_example(parse_json(line), f"{against}_negative_responses", len(examples)))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not examples:
        raise DataError(f"{path}: no examples: the file is empty, expected one JSON object a line")
    return examples


def source(path: str, seed: int) -> Source:
    """``dailydialog++:PATH``: the folder ``dataset``, or one of its files, against adversarial answers."""
    return _source(Path(path), "adversarial", seed)


def source_random(path: str, seed: int) -> Source:
    """``dailydialog++-random:PATH``: the same against random answers."""
    return _source(Path(path), "random", seed)


def _source(path: Path, against: Wrong, seed: int) -> Source:
    if not path.is_dir():
        return Source(read_dailydialogpp(path, against))
    # data_positives.json has further contexts to train on, with right answers alone.
    files = [file for file in (path / "train.json", path / "data_positives.json") if file.exists()]
    if not files:
        raise DataError(f"{path}: no training data, expected train.json or data_positives.json")
    train = Source([example for file in files for example in read_dailydialogpp(file, against)])
    validation, test = (read_dailydialogpp(path / name, against) for name in ("dev.json", "test.json"))
    return with_validation(train, validation, test, seed)


def _example(record: Any, wrong: str, number: int) -> Example:
    if not isinstance(record, dict):
        raise DataError(f"expected an object with context and positive_responses, given {shortened(record)}")
    for name in ("context", "positive_responses"):
        if name not in record:
            raise DataError(f'no "{name}"; given only {shortened(list(record))}')
        if not isinstance(record[name], list) or not record[name]:
            raise DataError(f"{name}: expected a list of texts, given {shortened(record[name])}")
    right = record["positive_responses"]
    if wrong not in record:
        return Example(record["context"], right)
    if not isinstance(record[wrong], list):
        raise DataError(f"{wrong}: expected a list of texts, given {shortened(record[wrong])}")
    negatives = [text for text in record[wrong] if text not in right]
    return Example(record["context"], right, negatives, [right[number % len(right)], *negatives])
