"""TREC's files: runs (what a system found) and qrels (what is right), read and written.

Knows ids alone; nothing of what a query or a document says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from polyencoders.data.examples import shortened
from polyencoders.data.lines import numbered_lines
from polyencoders.errors import DataError, PolyencodersError
from polyencoders.files import whole_file

Qrels = dict[str, dict[str, int]]
"""For each query's id, how relevant each judged document is, by its id."""
Run = dict[str, dict[str, float]]
"""For each query's id, the score of each document that was found, by its id."""
_Value = TypeVar("_Value", int, float)


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Reads TREC qrels: lines ``query iteration document relevance``.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped; fields are separated by white space, the iteration is not used. Relevance is a whole
        number, 0 or less for a document that is not relevant.

    Raises
    ------
    DataError
        When a line is not as above, a document is judged twice for a query, or there are none.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "qrels")
    >>> _ = path.write_text("q1 0 d7 1\\nq1 0 d8 0\\n")
    >>> read_qrels(path)
    {'q1': {'d7': 1, 'd8': 0}}
    """
    path = Path(path)
    qrels: Qrels = {}
    for number, line in numbered_lines(path):
        try:
            query, _, document, relevance = _fields(line, ("query", "iteration", "document", "relevance"))
            _add(qrels, query, document, whole_number("relevance", relevance), "judged")
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not qrels:
        raise DataError(f"{path}: no judgements: the file is empty")
    return qrels


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads a TREC run: lines ``query Q0 document rank score name``.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped; fields are separated by white space. The score says the order, as for trec_eval; the
        rank is not used.

    Returns
    -------
    dict of str to dict of str to float
        Queries in the file's order; the documents of each from the highest score, those with the same in the file's
        order.

    Raises
    ------
    DataError
        When a line is not as above, a score is not a number, a document is found twice for a query, or there are none.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "run")
    >>> _ = path.write_text("q1 Q0 d7 2 1.5 mine\\nq1 Q0 d8 1 2.5 mine\\n")
    >>> read_run(path)
    {'q1': {'d8': 2.5, 'd7': 1.5}}
    """
    path = Path(path)
    run: Run = {}
    for number, line in numbered_lines(path):
        try:
            query, _, document, _, score, _ = _fields(line, ("query", "Q0", "document", "rank", "score", "name"))
            _add(run, query, document, _number("score", score), "found")
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not run:
        raise DataError(f"{path}: nothing was found: the file is empty")
    return {query: dict(sorted(found.items(), key=lambda item: -item[1])) for query, found in run.items()}


def write_run(run: Mapping[str, Mapping[str, float]], path: str | os.PathLike[str], name: str = "polyencoders") -> None:
    """Writes a run so that `read_run` and trec_eval read it; the file is written whole or not at all.

    Parameters
    ----------
    run
        For each query's id, the score of each document that was found. Ranks are by score; equal scores keep their
        order in the file (trec_eval orders them by name).
    path
        Where to write; an existing file is replaced.
    name
        What to call the run, in its last column.

    Raises
    ------
    DataError
        When there is nothing to write, an id or the name is empty or has white space in it, or a score is not finite.
    PolyencodersError
        When the file cannot be written; what was there before is untouched.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "run")
    >>> write_run({"q1": {"d7": 1.5, "d8": 2.5}}, path, name="mine")
    >>> print(path.read_text(), end="")
    q1 Q0 d8 1 2.5 mine
    q1 Q0 d7 2 1.5 mine
    """
    path = Path(path)
    lines = []
    for query, found in run.items():
        for rank, (document, score) in enumerate(sorted(found.items(), key=lambda item: -item[1]), start=1):
            for what, value in (("query", query), ("document", document), ("name", name)):
                if not value or value.split() != [value]:
                    raise DataError(
                        f"{what} {value!r}: expected a name without white space, which TREC's files split at"
                    )
            if not math.isfinite(score):
                raise DataError(f"the score of document {document} for query {query} is {score}: expected a number")
            lines.append(f"{query} Q0 {document} {rank} {float(score)!r} {name}\n")
    if not lines:
        raise DataError(f"{path}: nothing to write: no query has found anything")
    try:
        with whole_file(path) as scratch:
            scratch.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise PolyencodersError(f"{path}: could not be written ({error.strerror or error}); nothing changed") from error


def whole_number(what: str, text: str) -> int:
    """The number that a field says, or a DataError that begins with what the field is."""
    try:
        return int(text)
    except ValueError:
        raise DataError(f"{what}: expected a whole number, given {shortened(text)}") from None


def _number(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise DataError(f"{what}: expected a number, given {shortened(text)}")
    return value


def _fields(line: str, names: tuple[str, ...]) -> list[str]:
    fields = line.split()
    if len(fields) != len(names):
        raise DataError(f"{len(fields)} fields, expected {len(names)} ({', '.join(names)}): {shortened(line.strip())}")
    return fields


def _add(table: dict[str, dict[str, _Value]], query: str, document: str, value: _Value, what: str) -> None:
    row = table.setdefault(query, {})
    if document in row:
        raise DataError(f"document {document!r} is {what} twice for query {query!r}")
    row[document] = value
