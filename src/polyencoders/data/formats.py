"""Loads a data set by its name: the built-in one, a file of examples, or a set in one of the field's formats."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from polyencoders.data import beir, conversations, json_dialogues, labelled, numbered_dialogues, ubuntu, wikiqa
from polyencoders.data.chitchat import chitchat
from polyencoders.data.jsonl import read_examples
from polyencoders.data.lines import did_you_mean, located
from polyencoders.data.sources import Source
from polyencoders.data.splits import Splits
from polyencoders.errors import DataError

FORMATS: dict[str, Callable[[str, int], Source]] = {
    "babi": numbered_dialogues.babi_source,
    "beir": beir.source,
    "clinc150": labelled.clinc150_source,
    "convai2": numbered_dialogues.convai2_source,
    "dailydialog++": json_dialogues.dailydialogpp_source,
    "dailydialog++-random": json_dialogues.dailydialogpp_random_source,
    "dstc7": json_dialogues.dstc7_source,
    "labelled": labelled.source,
    "mutual": json_dialogues.mutual_source,
    "scifact": beir.scifact_source,
    "self-dialogue": conversations.self_dialogue_source,
    "ubuntu": ubuntu.source,
    "ubuntu-irc": ubuntu.irc_source,
    "wikiqa": wikiqa.source,
}
"""What may stand before the colon in ``FORMAT:PATH``, and what reads it, given the path and a seed."""

_EXPECTED = f"FORMAT:PATH with one of the formats {', '.join(FORMATS)}"


def load_examples(source: str | os.PathLike[str], seed: int = 0, columns: Mapping[str, str] | None = None) -> Splits:
    """Loads a data set: examples to train on, to validate on and to test, and the list that all rank, if there is one.

    `source` is ``"chitchat"``, the path of a file (see `read_examples`; `columns` is its), or ``"FORMAT:PATH"``, as
    in ``"mutual:data/mutual"``; the formats are in docs/data.md. What cannot be used is a DataError.
    `seed` splits a set that has no splits of its own into about 80%, 10% and 10% (see `split_examples`). In a set with
    only training and test, it chooses what is held out for validation.

    >>> load_examples("chitchta")
    Traceback (most recent call last):
    polyencoders.errors.DataError: chitchta: neither a file nor a built-in data set (chitchat), did you mean "chitchat"?
    """
    found = read_source(source, seed, columns)
    with located(os.fspath(source)):
        return found.split(validation=0.1, test=0.1, seed=seed)


def read_source(source: str | os.PathLike[str], seed: int = 0, columns: Mapping[str, str] | None = None) -> Source:
    """Reads what `load_examples` splits: examples in one list, or a set with its own splits.

    `columns` is that of `read_examples`; only files have any.
    """
    name = os.fspath(source)
    if columns and not Path(name).is_file():
        raise DataError(f"{name}: columns are those of a file: a table, or JSON")
    if name == "chitchat":
        return Source([], chitchat())
    if Path(name).is_dir():
        raise DataError(
            f"{name}: a directory, expected a file; labelled:{name} reads tables in it that are called train and test; "
            f"or another format before it, {_EXPECTED}"
        )
    if Path(name).exists():
        examples, names = read_examples(name, columns)
        if len(names) == 1:
            raise DataError(f"{name}: a single class, {names[0]!r}: there is nothing to tell apart")
        return Source(examples, corpus=names)
    kind, colon, path = name.partition(":")
    if colon and kind in FORMATS:
        if not path:
            raise DataError(f"{name}: expected a path after the colon, as in {kind}:PATH")
        return FORMATS[kind](path, seed)
    if colon and len(kind) > 1:  # C:\\data is a path
        raise DataError(
            f"{name}: no file of this name, and no format {kind!r}{did_you_mean(kind, FORMATS)}; expected {_EXPECTED}"
        )
    if name in FORMATS:
        raise DataError(f"{name}: a format; expected a path after it, {name}:PATH")
    raise DataError(f"{name}: neither a file nor a built-in data set (chitchat){did_you_mean(name, ['chitchat'])}")
