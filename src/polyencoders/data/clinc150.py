"""CLINC150: what people ask an assistant, and the names of 150 intents (Larson et al., EMNLP 2019).

Knows the JSON of https://github.com/clinc/oos-eval. What is out of scope has no right answer, and is no example.
"""

from __future__ import annotations

import os
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.labelled import by_text, readable
from polyencoders.data.lines import read_json
from polyencoders.data.sides import Side, Source
from polyencoders.errors import DataError

_SIDES: dict[Side, str] = {"train": "train", "validation": "val", "test": "test"}


def read_clinc150(path: str | os.PathLike[str]) -> dict[Side, list[Example]]:
    """Reads CLINC150.

    Parameters
    ----------
    path
        A file such as ``data_full.json``: ``{"train": [["how do you say hi in french", "translate"], ...], "val": ...,
        "test": ..., "oos_train": ...}``. The lists out of scope (``oos_...``) are not read.

    Returns
    -------
    dict of str to list of Example
        ``train``, ``validation`` and ``test``: 15,000, 3,000 and 4,500 in ``data_full.json``. The positive is the
        intent's name, as people write it; no candidates: every query ranks all names.

    Raises
    ------
    DataError
        When the file cannot be used; the message begins with it.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "data_full.json")
    >>> _ = path.write_text(json.dumps({"train": [["say hi", "greet"]], "val": [], "test": [["am i rich", "pay_day"]]}))
    >>> read_clinc150(path)["test"][0].positives
    ('pay day',)
    """
    path = Path(path)
    data = read_json(path)
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected an object with train, val and test, given {shortened(data)}")
    sides: dict[Side, list[Example]] = {}
    for side, name in _SIDES.items():
        if not isinstance(data.get(name), list):
            raise DataError(f'{path}: no list "{name}"; given only {shortened(list(data))}')
        sides[side] = []
        for number, pair in enumerate(data[name], start=1):
            try:
                if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                    raise DataError(f"expected a text and an intent's name, given {shortened(pair)}")
                sides[side].append(Example(pair[0], readable(pair[1])))
            except DataError as error:
                raise DataError(f"{path}: {name}, {number} of {len(data[name])}: {error}") from None
    return sides


def source(path: str, seed: int) -> Source:
    """``clinc150:PATH``: a file such as ``data_full.json``."""
    return by_text(read_clinc150(path), seed)
