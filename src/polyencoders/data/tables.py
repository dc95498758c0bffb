"""Rows of CSV and TSV files, plain or gzipped, each with the line on which it begins. Errors name file and line.

Knows nothing of what a column means.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from polyencoders.data.examples import shortened
from polyencoders.data.lines import did_you_mean, numbered_lines
from polyencoders.errors import DataError

LONGEST = 1 << 24
"""Bytes of a line, characters of a CSV row. Longer is a file without newlines, or a quote that is never closed."""


def named_rows(
    path: Path,
    delimiter: str = ",",
    check_names: Callable[[Collection[str]], None] = lambda names: None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows under a header, each as a dict, with the number of the line on which it begins.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped; the first row that is not blank is the header, without a name twice or missing.
    delimiter
        What stands between fields.
    check_names
        Raises a DataError when the header is not as it should be.
    progress
        See `numbered_lines`.
    """
    header: list[str] | None = None
    for number, row in csv_rows(path, delimiter, progress):
        try:
            if header is None:
                header = row
                _check_header(header, delimiter)
                check_names(header)
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{_counted(row)}, expected {len(header)}, as the header has; a field that holds a "
                    f"{'comma' if delimiter == ',' else 'tab'} or a line break is quoted: {shortened(row)}"
                )
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        yield number, dict(zip(header, row, strict=True))


def has_columns(*names: str) -> Callable[[Collection[str]], None]:
    """A check for `named_rows`: that the header has these columns, among others.

    >>> has_columns("claim")(["id", "claims"])
    Traceback (most recent call last):
    polyencoders.errors.DataError: no column "claim", did you mean "claims"?; given only ['id', 'claims']
    """

    def check(header: Collection[str]) -> None:
        for name in names:
            if name not in header:
                raise DataError(f'no column "{name}"{did_you_mean(name, header)}; given only {shortened(list(header))}')

    return check


def csv_rows(
    path: Path, delimiter: str = ",", progress: Callable[[float], None] | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, as lists of fields, with the number of the line on which each begins."""
    last = first = length = 0

    def fed() -> Iterator[str]:
        nonlocal last, length
        for number, line in numbered_lines(path, blank=True, longest=LONGEST, progress=progress):
            last = number
            length += len(line)
            if length > LONGEST:
                raise DataError(
                    f"{path}:{first}: the row that begins here has more than {LONGEST:,} characters: "
                    "is a quote opened and never closed?"
                )
            yield line

    # The limit is the whole process's, and as Python sets it (131,072) too small for a book; never lowered for others.
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    while True:
        first, length = last + 1, 0
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


def check_distinct(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f'the column "{twice}" is given twice')


def _counted(row: list[str]) -> str:
    return f"{len(row)} field{'s' if len(row) > 1 else ''}"
