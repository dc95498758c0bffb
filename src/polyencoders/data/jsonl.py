"""Reads and writes examples as JSON Lines, and reads lists of texts. Files are plain or gzipped."""

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polyencoders.data.examples import Example, check_text, shortened, text_or_texts
from polyencoders.data.lines import JSON_SUFFIXES, did_you_mean, json_lines, numbered_lines, parse_json, parsed, suffix
from polyencoders.errors import DataError, PolyencodersError
from polyencoders.files import whole_file

_FIELDS = ("query", "positive", "positives", "negatives", "candidates")


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
    return json_lines(Path(path), _example)


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


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """Reads documents to rank, one on each line. A DataError names the file and the line.

    `path` is UTF-8, plain or gzipped. With a name ending in ``.jsonl``, ``.ndjson`` or ``.json`` (before ``.gz``), each
    line is a JSON string or an object with a ``text`` field; its other fields are not read. With any other name, each
    line is a text, without the white space around it. Blank lines are skipped. Returns at least one text, in the file's
    order, duplicates kept.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "documents.txt")
    >>> _ = path.write_text("Tea is served at four.\\n\\nCoffee is out.\\n")
    >>> read_texts(path)
    ['Tea is served at four.', 'Coffee is out.']
    """
    path = Path(path)
    parse = (lambda line: _text(parse_json(line))) if suffix(path) in JSON_SUFFIXES else str.strip
    return parsed(path, numbered_lines(path), parse, "no texts: the file is empty, expected one document a line")


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


def _example(record: Any) -> Example:
    if not isinstance(record, dict):
        raise DataError(f'expected an object such as {{"query": ..., "positive": ...}}, given {shortened(record)}')
    for name in record:
        if name not in _FIELDS:
            raise DataError(
                f"unknown field {shortened(name)}{did_you_mean(name, _FIELDS)}; "
                "the fields are query, positive or positives, negatives, candidates"
            )
    given = f"given only {shortened(list(record))}"
    if "query" not in record:
        raise DataError(f'no "query": expected a text or a list of turns; {given}')
    positives = [record[name] for name in ("positive", "positives") if name in record]
    if len(positives) == 2:
        raise DataError('both "positive" and "positives": expected one of the two')
    if not positives:
        raise DataError(f'no "positive" (or "positives"): expected the right answer; {given}')
    negatives = record.get("negatives")  # exported tables may have null for what is absent
    return Example(record["query"], positives[0], () if negatives is None else negatives, record.get("candidates"))


def _record(example: Example) -> dict[str, Any]:
    """Returns the fields as one would write them by hand: a single text is no list, and empty fields are left out."""
    record: dict[str, Any] = {"query": example.query[0] if len(example.query) == 1 else example.query}
    one = len(example.positives) == 1
    record |= {"positive": example.positives[0]} if one else {"positives": example.positives}
    record |= {"negatives": example.negatives} if example.negatives else {}
    return record if example.candidates is None else record | {"candidates": example.candidates}


def _text(record: Any) -> str:
    if isinstance(record, dict):
        if "text" not in record:
            raise DataError(f'no "text" field, given only {shortened(list(record))}')
        record = record["text"]
    elif not isinstance(record, str):
        raise DataError(f'expected a string or an object with a "text" field, given {shortened(record)}')
    check_text("text", record)
    return str(record)
