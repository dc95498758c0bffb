"""Reads short texts and the names of their classes: a text is a query, the name of its class the document."""

import os
from dataclasses import replace
from pathlib import Path

from polyencoders.data.examples import Example, class_names, shortened
from polyencoders.data.jsonl import read_examples
from polyencoders.data.lines import check_object, located, numbered, parsed, read_json
from polyencoders.data.sources import Source, Split, read_splits, with_validation
from polyencoders.errors import DataError

_ENDINGS = ("csv", "tsv", "xlsx", "parquet", "jsonl", "json")
_STEMS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "*train*"),
    "validation": ("val", "valid", "validation", "dev", "validation-*"),
    "test": ("test", "*test*"),
}
_NAMES = {split: [f"{stem}.{ending}" for stem in stems for ending in _ENDINGS] for split, stems in _STEMS.items()}
_CLINC150: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


def read_labelled(path: str | os.PathLike[str], text: str | None = None, label: str | None = None) -> list[Example]:
    """Reads texts and the names of their classes from a table.

    `path` is a table as `read_examples` takes it. `text` and `label` name the columns, by default ones with common
    names; in a table of two columns, the first and the second.

    Examples are in the file's order. The positive is the name as people write it, ``card_arrival`` as ``card arrival``.
    There are no candidates: every text ranks all names, which `class_names` gives. A DataError names the file and the
    line.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "train.csv")
    >>> _ = path.write_text("text,category\\nWhere is my card?,card_arrival\\nIt is lost,lost_card\\n")
    >>> read_labelled(path)[0]
    Example(query=('Where is my card?',), positives=('card arrival',), negatives=(), candidates=None)
    """
    asked = {role: name for role, name in (("query", text), ("label", label)) if name is not None}
    return read_examples(path, asked or None, two=True)[0]


def read_clinc150(path: str | os.PathLike[str]) -> dict[Split, list[Example]]:
    """Reads CLINC150: what people ask an assistant, and the names of 150 intents (Larson et al., EMNLP 2019).

    `path` is a file such as ``data_full.json``: ``{"train": [["freeze my account", "freeze_account"], ...], "val": ...,
    "test": ..., "oos_train": ...}``. Questions out of scope (``oos_...``) are left out.

    Returns ``train``, ``validation`` and ``test``. The positive is the intent's name, as people write it. There are no
    candidates: every query ranks all names. A DataError names the file and the place in it.

    >>> import json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "data_full.json")
    >>> _ = path.write_text(json.dumps({"train": [["say hi", "greet"]], "val": [], "test": [["am i rich", "pay_day"]]}))
    >>> read_clinc150(path)["test"][0].positives
    ('pay day',)
    """
    path = Path(path)
    data = read_json(path)

    def example(pair: object) -> Example:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise DataError(f"expected a text and an intent's name, given {shortened(pair)}")
        return Example(pair[0], _readable(pair[1]))

    with located(path):
        check_object(data, "train, val and test")
    splits: dict[Split, list[Example]] = {}
    for split, name in _CLINC150.items():
        if not isinstance(data.get(name), list):
            raise DataError(f'{path}: no list "{name}"; given only {shortened(list(data))}')
        splits[split] = parsed(path, numbered(f"{name},", data[name]), example)
    return splits


def source(path: str, seed: int) -> Source:
    """``labelled:PATH``: a table, or a folder with tables ``train``, ``test`` and perhaps ``validation``."""
    found = read_splits(Path(path), _NAMES, _read, seed)
    return _with_class_names(found) if found.corpus or found.splits is not None else found


def _read(path: Path) -> Source:
    examples, names = read_examples(path, two=True)
    return Source(examples, corpus=names)


def clinc150_source(path: str, seed: int) -> Source:
    """``clinc150:PATH``: a file such as ``data_full.json``."""
    splits = read_clinc150(path)
    train = Source(splits["train"])
    return _with_class_names(with_validation(Path(path), train, splits["validation"], splits["test"], seed))


def _with_class_names(found: Source) -> Source:
    """Makes the names of all classes the list that every query ranks."""
    splits = found.splits
    parts = [found.examples] if splits is None else [splits.train, splits.validation, splits.test]
    return replace(found, corpus=class_names(*parts))


def _readable(name: str) -> str:
    """Returns a class's name as people write it."""
    return " ".join(name.replace("_", " ").split())
