"""Reads the rows of CSV and TSV files, plain or gzipped. Errors name the file and the line on which a row begins."""

import csv
import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from polyencoders.data.examples import shortened
from polyencoders.data.lines import beginning, did_you_mean, item, located, numbered_lines
from polyencoders.errors import DataError

logger = logging.getLogger(__name__)

DELIMITERS = (",", ";", "\t", "|")

LONGEST = 1 << 24
"""The most bytes of a line, and characters of a CSV row: a longer one is a quote that is never closed, or the like."""


def named_rows(
    path: Path,
    delimiter: str = ",",
    check_names: Callable[[Collection[str]], None] = lambda names: None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows under a header as dicts, each with the number of the line on which it begins.

    The first row that is not blank is the header (after ``sep=;``, which Excel knows); every column that holds
    something has a name of its own, but perhaps the first (see `by_name`). `check_names` raises a DataError when it is
    not as it should be. Another delimiter than the one expected is found out, and a warning says so. `progress` is as
    in `numbered_lines`.
    """
    delimiter = found_delimiter(path, delimiter)
    header: list[str] | None = None
    for number, row in _rows(path, delimiter, progress):
        if header is None:
            if row == ["sep=", ""]:
                continue
            with located(f"{path}:{number}"):
                header = row
                check_names(checked_header(path, header))
            continue
        with item(f"{path}:{number}"):
            if len(row) != len(header):
                given = f"{len(row)} field{'s' if len(row) > 1 else ''}"
                mark = {",": "comma", "\t": "tab"}.get(delimiter, repr(delimiter))
                raise DataError(
                    f"{given}, expected {len(header)}, as the header has; a field that holds a "
                    f"{mark} or a line break is quoted: {shortened(row)}"
                )
            yield number, by_name(header, row)


def found_delimiter(path: Path, expected: str) -> str:
    """Returns what stands between the fields: the first mark by which the first rows have as many fields as the header.

    That is more than one field; where no mark does it, the one expected.
    """
    start = beginning(path).lstrip()
    if start[:4] == "sep=" and start[4:5] in DELIMITERS:
        return start[4]
    for mark in (expected, *(mark for mark in DELIMITERS if mark != expected)):
        try:
            rows = [row for row in islice(csv.reader(io.StringIO(start), delimiter=mark), 6) if row]
        except csv.Error:
            continue
        # The last of them may be cut.
        if rows and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows[1:-1]):
            if mark != expected:
                logger.warning("%s: the fields are separated by %r", path, mark)
            return mark
    return expected


def has_columns(*names: str) -> Callable[[Collection[str]], None]:
    """Makes a check for `named_rows`: the header must have these columns."""

    def check(header: Collection[str]) -> None:
        for name in names:
            if name not in header:
                raise DataError(f'no column "{name}"{did_you_mean(name, header)}; given only {shortened(list(header))}')

    return check


def checked_header(path: Path, header: Sequence[str]) -> list[str]:
    """Returns the names of columns, of which no two are the same; a warning says that the first column has none."""
    names = [name for name in header if name]
    if not names:
        raise DataError("no column has a name in the header")
    check_distinct(names)
    if not header[0]:
        logger.warning("%s: column 1 has no name, and is not read", path)
    return names


def by_name(header: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Returns a row's values by the names of their columns.

    A column without a name is left out where it is the first, as pandas writes its index, or empty; else it is a
    DataError.
    """
    if "" not in header:
        return dict(zip(header, row, strict=True))
    for place, (name, value) in enumerate(zip(header, row, strict=True)):
        if place and not name and value not in ("", None):
            raise DataError(
                f"column {place + 1} of {len(header)} has no name in the header, and holds {shortened(value)}: give it "
                "a name"
            )
    return {name: value for name, value in zip(header, row, strict=True) if name}


def check_distinct(names: Sequence[str]) -> None:
    """Raises a DataError when two columns have the same name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f'the column "{twice}" is given twice')


def _rows(path: Path, delimiter: str, progress: Callable[[float], None] | None) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank, each with the number of the line on which it begins."""
    first = length = 0

    def counted() -> Iterator[str]:
        nonlocal length
        for _, line in numbered_lines(path, blank=True, longest=LONGEST, progress=progress, legacy=True):
            length += len(line)
            if length > LONGEST:
                raise DataError(
                    f"{path}:{first}: the row that begins here has more than {LONGEST:,} characters: "
                    "is a quote opened and never closed?"
                )
            yield line

    # Python's own limit, 131,072 characters, is too small for a long document. It holds for the whole process, so it
    # is only ever raised.
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    reader = csv.reader(counted(), delimiter=delimiter, strict=True)
    while True:
        first, length = reader.line_num + 1, 0
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{first}: {_csv_error(str(error))}") from None
        if row is None:
            return
        if row:
            yield first, row


def _csv_error(message: str) -> str:
    if "end of data" in message:
        return "a quote is opened in the row that begins here, and never closed"
    if "new-line" in message:
        return "a carriage return within a field: quote the field, or end lines with a line feed"
    return (
        f"not usable CSV ({message}): a field that begins with a quote ends with one, and a quote within it is doubled"
    )
