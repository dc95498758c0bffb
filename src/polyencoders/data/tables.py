"""Reads the rows of CSV and TSV files, plain or gzipped. Errors name the file and the line on which a row begins."""

import csv
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from polyencoders.data.examples import shortened
from polyencoders.data.lines import did_you_mean, located, numbered_lines
from polyencoders.errors import DataError

LONGEST = 1 << 24
"""The most bytes of a line, and characters of a CSV row: a longer one is a quote that is never closed, or the like."""


def named_rows(
    path: Path,
    delimiter: str = ",",
    check_names: Callable[[Collection[str]], None] = lambda names: None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows under a header as dicts, each with the number of the line on which it begins.

    The first row that is not blank is the header, in which every column has a name of its own. `check_names` raises a
    DataError when it is not as it should be. `progress` is as in `numbered_lines`.
    """
    header: list[str] | None = None
    for number, row in _rows(path, delimiter, progress):
        with located(f"{path}:{number}"):
            if header is None:
                header = row
                _check_header(header, delimiter)
                check_names(header)
                continue
            if len(row) != len(header):
                given = f"{len(row)} field{'s' if len(row) > 1 else ''}"
                raise DataError(
                    f"{given}, expected {len(header)}, as the header has; a field that holds a "
                    f"{'comma' if delimiter == ',' else 'tab'} or a line break is quoted: {shortened(row)}"
                )
        yield number, dict(zip(header, row, strict=True))


def has_columns(*names: str) -> Callable[[Collection[str]], None]:
    """Makes a check for `named_rows`: the header must have these columns."""

    def check(header: Collection[str]) -> None:
        for name in names:
            if name not in header:
                raise DataError(f'no column "{name}"{did_you_mean(name, header)}; given only {shortened(list(header))}')

    return check


def check_distinct(names: list[str]) -> None:
    """Raises a DataError when two columns have the same name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f'the column "{twice}" is given twice')


def _rows(path: Path, delimiter: str, progress: Callable[[float], None] | None) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank, each with the number of the line on which it begins."""
    first = length = 0

    def counted() -> Iterator[str]:
        nonlocal length
        for _, line in numbered_lines(path, blank=True, longest=LONGEST, progress=progress):
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


def _check_header(header: list[str], delimiter: str) -> None:
    other = next((mark for mark in ";\t,|" if mark != delimiter and mark in header[0]), None)
    if len(header) == 1 and other:
        raise DataError(
            f"the header is one field with {other!r} in it: expected {delimiter!r} between fields, given {header[0]!r}"
        )
    check_distinct(header)
    if "" in header:
        raise DataError(f"column {header.index('') + 1} of {len(header)} has no name in the header: give it one")
