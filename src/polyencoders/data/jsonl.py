"""Reads examples from files of any kind, and writes them as JSON Lines; reads lists of texts."""

import gzip
import json
import logging
import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from polyencoders.data.columns import Columns
from polyencoders.data.documents import DocumentFile
from polyencoders.data.examples import Example, class_names, shortened, text_or_texts
from polyencoders.data.fields import Rows, example_of, roles_in, strictly
from polyencoders.data.lines import (
    JSON_SUFFIXES,
    json_lines,
    located,
    nothing_left,
    number_left_out,
    numbered_lines,
    parse_json,
    parsed,
    suffix,
)
from polyencoders.data.records import TABLES, Records, check_readable, is_array, is_table, read_records
from polyencoders.errors import DataError, PolyencodersError
from polyencoders.files import whole_file

logger = logging.getLogger(__name__)


def read_jsonl(path: str | os.PathLike[str]) -> list[Example]:
    """Reads examples, one JSON object on each line. A DataError names the file and the line.

    `path` is a file of UTF-8 JSON Lines, plain or gzipped (recognised by content). Fields: ``query`` (a text, or a list
    of turns, oldest first), ``positive`` or ``positives`` (a text or a list of texts; one of the two), and optionally
    ``negatives`` and ``candidates`` (lists of texts). Blank lines are skipped. Returns at least one example, in the
    file's order.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mine.jsonl")
    >>> _ = path.write_text('{"query": ["Hi!", "Tea?"], "positive": "Yes, please."}')
    >>> read_jsonl(path)[0].query
    ('Hi!', 'Tea?')
    """
    return json_lines(Path(path), example_of)


def write_jsonl(examples: Iterable[Example], path: str | os.PathLike[str]) -> None:
    """Writes examples so that `read_jsonl` gives them back. The file is written whole or not at all.

    A missing folder is made, an existing file replaced. The file is gzipped when its name ends in ``.gz``. Raises a
    DataError when there are no examples, and a PolyencodersError when the file cannot be written (a full disk, no
    permission); an existing file is then untouched.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mine.jsonl.gz")
    >>> write_jsonl([Example("Tea?", "Yes, please.")], path)
    >>> read_jsonl(path) == [Example("Tea?", "Yes, please.")]
    True
    """
    path = Path(path)
    lines = [json.dumps(_record(example), ensure_ascii=False) + "\n" for example in examples]
    if not lines:
        raise DataError(f"{path}: no examples to write")
    content = "".join(lines).encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # no time stamp: the same examples give the same bytes
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise PolyencodersError(f"{path}: could not be written ({error.strerror or error}); nothing changed") from error


def read_texts(path: str | os.PathLike[str], text: str | None = None) -> list[str]:
    """Reads documents to rank from a file as `DocumentFile` does, without ids and metadata, duplicates kept.

    A text on each line, JSON Lines of texts or of objects, a JSON array, or a table; `text` names the field. A
    DataError names the file and the place.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "documents.txt")
    >>> _ = path.write_text("Tea is served at four.\\n\\nCoffee is out.\\n")
    >>> read_texts(path)
    ['Tea is served at four.', 'Coffee is out.']
    """
    return list(DocumentFile(path, text).texts())


def read_examples(
    path: str | os.PathLike[str], columns: Mapping[str, str] | None = None, two: bool = False
) -> tuple[list[Example], tuple[str, ...]]:
    """Reads examples from a file of any kind: a table, a JSON array, or JSON Lines as `read_jsonl` takes them.

    `columns` says which column has which role (`query`, `positive`, `negative`, `label`); those that it leaves out are
    guessed, and a warning says how. `two` is that of `Columns.of`. Returns the examples, and the names of all classes
    where a label is one: every text ranks them all. A DataError names the file and the place.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "faq.csv")
    >>> _ = path.write_text("id,q,a\\n1,Tea?,At four.\\n")
    >>> read_examples(path, {"query": "q", "positive": "a"})[0]
    [Example(query=('Tea?',), positives=('At four.',), negatives=(), candidates=None)]
    """
    path = Path(path)
    check_readable(path)
    found, before = read_records(path), number_left_out()
    roles: Columns | None
    try:
        if is_table(path):
            roles, names, rows = _roles_of_table(found, columns, two)
        else:
            roles, names, rows = roles_in(found, columns, two)
        if roles is not None and not columns:
            logger.warning("%s: %s", path, roles.said(names))
        examples = list(strictly(rows)) if roles is None else roles.examples(rows)
        if not examples:
            raise nothing_left(path, f"no examples: {_why_none(path, names)}", before)
    except DataError as error:
        if is_table(path) or suffix(path) in JSON_SUFFIXES or "not valid JSON" not in str(error):
            raise
        raise DataError(f"{error}; a table is known by the ending of its name: {', '.join(TABLES)}") from None
    is_class = roles is not None and roles.is_class
    return examples, class_names(examples) if is_class else ()


def _roles_of_table(
    found: Records, columns: Mapping[str, str] | None, two: bool
) -> tuple[Columns | None, list[str], Rows]:
    """Returns the roles of columns, their names, and the rows, which all have them."""
    first = next(found, None)
    if first is None:
        return None, [], []
    place, row = first
    with located(place):
        return Columns.of(list(row), columns, two), list(row), chain([first], found)


def _why_none(path: Path, names: list[str]) -> str:
    if names:
        return "no row has a query and its right answer"
    if is_table(path) or (suffix(path) == ".json" and is_array(path)):
        return "the file is empty, or has only a header"
    return "the file is empty, expected one JSON object a line"


def read_queries(path: str | os.PathLike[str]) -> list[tuple[str, ...]]:
    """Reads queries without answers, such as a log, one on each line. A DataError names the file and the line.

    `path` is as for `read_texts`, but a line of JSON is a string, a list of turns, or an object with a ``query`` field.
    Returns the turns of at least one query, in the file's order, duplicates kept.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "log.jsonl")
    >>> _ = path.write_text('"opening hours"\\n{"query": ["Hello.", "Where is the museum?"], "clicks": 0}\\n')
    >>> read_queries(path)
    [('opening hours',), ('Hello.', 'Where is the museum?')]
    """
    path = Path(path)
    parse = (lambda line: _turns(parse_json(line))) if suffix(path) in JSON_SUFFIXES else lambda line: (line.strip(),)
    return parsed(path, numbered_lines(path), parse, "no queries: the file is empty, expected one query a line")


def _turns(record: Any) -> tuple[str, ...]:
    if isinstance(record, dict):
        if "query" not in record:
            raise DataError(f'no "query" field, given only {shortened(list(record))}')
        record = record["query"]
    return text_or_texts("query", "turn", record)


def _record(example: Example) -> dict[str, Any]:
    """Returns the fields as one would write them by hand: a single text is no list, and empty fields are left out."""
    record: dict[str, Any] = {"query": example.query[0] if len(example.query) == 1 else example.query}
    one = len(example.positives) == 1
    record |= {"positive": example.positives[0]} if one else {"positives": example.positives}
    record |= {"negatives": example.negatives} if example.negatives else {}
    return record if example.candidates is None else record | {"candidates": example.candidates}
