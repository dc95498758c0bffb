"""The Ubuntu Dialogue Corpus, v1 and v2, as CSV: what is said next, of ten utterances (Lowe et al., SIGDIAL 2015).

Knows both tables of it: labelled pairs to train on, and right answers with nine wrong ones to validate and test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from polyencoders.data.examples import Example, shortened
from polyencoders.data.sides import Side, Source, read_sides
from polyencoders.data.tables import csv_rows
from polyencoders.errors import DataError

_NAMES: dict[Side, list[str]] = {"train": ["train*.csv"], "validation": ["val*.csv"], "test": ["test*.csv"]}
# v2 marks the ends of utterances and of turns, v1 the ends of turns.
_END_OF_TURN = re.compile(r"__eot__|__EOS__")
_END_OF_UTTERANCE = re.compile(r"__eou__")


def read_ubuntu(path: str | os.PathLike[str]) -> list[Example]:
    """Reads a table of the Ubuntu Dialogue Corpus.

    Parameters
    ----------
    path
        CSV under a header, plain or gzipped. Three columns, the third with 0 and 1: a context, an utterance, and
        whether it was said next (``train.csv``). More: a context, what was said next, and wrong answers (``valid.csv``,
        ``test.csv``).

    Returns
    -------
    list of Example
        In the file's order. The query is the context's turns; marks of ends (``__eou__``, ``__eot__``, ``__EOS__``) are
        left out. Rows labelled 0, whose utterance is a random one, are left out, as there is no right answer in them,
        and so are answers without a word. Candidates are the right answer and the wrong ones, in the file's order.

    Raises
    ------
    DataError
        When the file or one of its rows cannot be used; the message begins with the file and the line number.

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
    examples = []
    header: list[str] | None = None
    for number, row in csv_rows(path):
        try:
            if header is None:
                header = row
                if len(row) < 3 or row[0].strip().casefold() != "context":
                    raise DataError(f"expected a header Context, Utterance, Label or the like, given {shortened(row)}")
                continue
            if len(row) != len(header):
                raise DataError(f"{len(row)} fields, expected {len(header)}, as the header has: {shortened(row)}")
            example = _pair(row) if len(header) == 3 else _listed(row)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        if example is not None:
            examples.append(example)
    if not examples:
        raise DataError(f"{path}: no examples: no row has a right answer")
    return examples


def source(path: str, seed: int) -> Source:
    """``ubuntu:PATH``: a table, or a folder with ``train.csv``, ``valid.csv`` and ``test.csv``, or v1's names."""
    folder = Path(path)
    if not folder.is_dir():
        return Source(read_ubuntu(folder))
    return read_sides(folder, _NAMES, lambda file: Source(read_ubuntu(file)), seed)


def _pair(row: list[str]) -> Example | None:
    context, utterance, label = row
    if label.strip() not in ("0", "1", "0.0", "1.0"):
        raise DataError(f"the third column is a label: expected 0 or 1, given {shortened(label)}")
    answer = _utterance(utterance)
    return Example(_turns(context), answer) if float(label) and answer else None


def _listed(row: list[str]) -> Example | None:
    context, *utterances = row
    answers = [_utterance(text) for text in utterances]
    if not answers[0]:
        return None
    return Example(_turns(context), answers[0], candidates=[text for text in answers if text])


def _turns(context: str) -> list[str]:
    return [turn for text in _END_OF_TURN.split(context) if (turn := _utterance(text))]


def _utterance(text: str) -> str:
    return " ".join(_END_OF_UTTERANCE.sub(" ", _END_OF_TURN.sub(" ", text)).split())
