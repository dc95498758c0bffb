"""The records of a file, whatever it is: a table (CSV, TSV, Excel, Parquet), a JSON array, or JSON Lines."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.excel import excel_rows
from polyencoders.data.lines import beginning, item, numbered_lines, parse_json, read_json, suffix
from polyencoders.data.parquet import parquet_rows
from polyencoders.data.tables import LONGEST, named_rows

TABLES = (".csv", ".tsv", ".xlsx", ".parquet")

Records = Iterator[tuple[str, Any]]
"""What a file holds, each with its place: ``menu.csv:3``, or ``menu.xlsx: row 3``."""


def is_table(path: Path) -> bool:
    """Tells whether a file has named columns, by the ending of its name."""
    return suffix(path) in TABLES


def read_records(
    path: Path,
    check_names: Callable[[Collection[str]], None] = lambda names: None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Records:
    """Yields the rows of a table as dicts, or the values of a JSON array or of JSON Lines, each with its place.

    `check_names` raises a DataError for names of columns that are not as they should be; `progress` is told how much
    has been read. Values of CSV are strings, None where empty.
    """
    ending = suffix(path)
    if ending in (".csv", ".tsv"):
        for number, row in named_rows(path, "," if ending == ".csv" else "\t", check_names, progress):
            yield f"{path}:{number}", {name: value or None for name, value in row.items()}
    elif ending in (".parquet", ".xlsx"):
        rows = parquet_rows if ending == ".parquet" else excel_rows
        for number, row in rows(path, check_names, progress):
            yield f"{path}: row {number}", row
    elif ending == ".json" and is_array(path):
        values = read_json(path)
        for number, value in enumerate(values, start=1):
            progress(number / len(values))
            yield f"{path}: item {number}", value
    else:
        for number, line in numbered_lines(path, longest=LONGEST, progress=progress):
            with item(f"{path}:{number}"):
                yield f"{path}:{number}", parse_json(line, finite=True)


def is_array(path: Path) -> bool:
    """Tells whether a JSON file is one list, and not a list on each line."""
    start = beginning(path).lstrip()
    if not start.startswith("["):
        return False
    first, *others = start.splitlines()
    return not (others and first.rstrip().endswith("]"))


def as_text(value: Any) -> Any:
    """Returns a value as it stands for a text: a number as it is written; texts and lists stay."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(value)
