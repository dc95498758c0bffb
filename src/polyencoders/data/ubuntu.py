"""Reads the Ubuntu Dialogue Corpus, v1 and v2, as CSV: what is said next, of ten utterances (Lowe et al., 2015)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import parsed
from polyencoders.data.sources import Source, Split, read_splits
from polyencoders.data.tables import named_rows
from polyencoders.errors import DataError

_NAMES: dict[Split, list[str]] = {"train": ["train*.csv"], "validation": ["val*.csv"], "test": ["test*.csv"]}
# v2 marks the ends of utterances and of turns, v1 the ends of turns.
_END_OF_TURN = re.compile(r"__eot__|__EOS__")
_END = re.compile(r"__eot__|__EOS__|__eou__")


def read_ubuntu(path: str | os.PathLike[str]) -> list[Example]:
    """Reads a table of the Ubuntu Dialogue Corpus. A DataError names the file and the line.

    Parameters
    ----------
    path
        CSV under a header, plain or gzipped. Three columns: a context, an utterance, and 1 where it was said next, 0
        where it was not (``train.csv``). More columns: a context, what was said next, and wrong answers
        (``valid.csv``, ``test.csv``).

    Returns
    -------
    list of Example
        In the file's order. The query is the context's turns, without the marks of ends (``__eou__``, ``__eot__``,
        ``__EOS__``). Rows labelled 0, whose utterance is a random one, and answers without a word are left out. The
        candidates are the right answer and the wrong ones, in the file's order.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "valid.csv")
    >>> _ = path.write_text("Context,Ground Truth Utterance,Distractor_0,Distractor_1\\n"
    ...     "no sound __eou__ help __eou__ __eot__ hi __eou__ __eot__,which card ? __eou__,bye __eou__,ok\\n")
    >>> read_ubuntu(path)[0].query, read_ubuntu(path)[0].candidates
    (('no sound help', 'hi'), ('which card ?', 'bye', 'ok'))
    """
    path = Path(path)
    found = parsed(path, named_rows(path, ",", _check_header), lambda row: _example(*row.values()))
    examples = [example for example in found if example is not None]
    if not examples:
        raise DataError(f"{path}: no examples: no row has a right answer")
    return examples


def source(path: str, seed: int) -> Source:
    """``ubuntu:PATH``: a table, or a folder with ``train.csv``, ``valid.csv`` and ``test.csv``, or v1's names."""
    return read_splits(Path(path), _NAMES, lambda file: Source(read_ubuntu(file)), seed)


def _check_header(names: Collection[str]) -> None:
    header = list(names)
    if len(header) < 3 or header[0].strip().casefold() != "context":
        raise DataError(f"expected a header Context, Utterance, Label or the like, given {shortened(header)}")


def _example(context: str, said: str, *others: str) -> Example | None:
    """Returns None for a row without a right answer."""
    turns = [turn for text in _END_OF_TURN.split(context) if (turn := _utterance(text))]
    answer = _utterance(said)
    if len(others) > 1:
        listed = [text for text in (answer, *map(_utterance, others)) if text]
        return Example(turns, answer, candidates=listed) if answer else None
    (label,) = others
    if label.strip() not in ("0", "1", "0.0", "1.0"):
        raise DataError(f"the third column is a label: expected 0 or 1, given {shortened(label)}")
    return Example(turns, answer) if float(label) and answer else None


def _utterance(text: str) -> str:
    return " ".join(_END.sub(" ", text).split())
