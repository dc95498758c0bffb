"""Reads CLINC150: what people ask an assistant, and the names of 150 intents (Larson et al., EMNLP 2019)."""

from __future__ import annotations

import os
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.labelled import readable, with_class_names
from polyencoders.data.lines import located, read_json
from polyencoders.data.sources import Source, Split, with_validation
from polyencoders.errors import DataError

_SPLITS: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


def read_clinc150(path: str | os.PathLike[str]) -> dict[Split, list[Example]]:
    """Reads CLINC150.

    Parameters
    ----------
    path
        A file such as ``data_full.json``: ``{"train": [["how do you say hi in french", "translate"], ...], "val": ...,
        "test": ..., "oos_train": ...}``. Questions out of scope (``oos_...``) are left out.

    Returns
    -------
    dict of str to list of Example
        ``train``, ``validation`` and ``test``: 15,000, 3,000 and 4,500 in ``data_full.json``. The positive is
        the intent's name, as people write it. There are no candidates: every query ranks all names.

    Raises
    ------
    DataError
        When the file cannot be used. The message begins with it.

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
    splits: dict[Split, list[Example]] = {}
    for split, name in _SPLITS.items():
        if not isinstance(data.get(name), list):
            raise DataError(f'{path}: no list "{name}"; given only {shortened(list(data))}')
        splits[split] = []
        for number, pair in enumerate(data[name], start=1):
            with located(f"{path}: {name}, {number} of {len(data[name])}"):
                if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                    raise DataError(f"expected a text and an intent's name, given {shortened(pair)}")
                splits[split].append(Example(pair[0], readable(pair[1])))
    return splits


def source(path: str, seed: int) -> Source:
    """``clinc150:PATH``: a file such as ``data_full.json``."""
    splits = read_clinc150(path)
    return with_class_names(with_validation(Source(splits["train"]), splits["validation"], splits["test"], seed))
