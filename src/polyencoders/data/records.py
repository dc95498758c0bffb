"""The records of a file, whatever it is: a table (CSV, TSV, Excel, Parquet), a JSON array, or JSON Lines."""

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.examples import shortened
from polyencoders.data.excel import excel_rows
from polyencoders.data.lines import beginning, item, numbered_lines, parse_json, read_json, suffix
from polyencoders.data.parquet import parquet_rows
from polyencoders.data.tables import LONGEST, named_rows
from polyencoders.errors import DataError

TABLES = (".csv", ".tsv", ".xlsx", ".parquet")
NOT_READ = {
    **dict.fromkeys((".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), "save it as .xlsx or CSV"),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db"), "save it as Parquet or CSV"),
    **dict.fromkeys((".pkl", ".pickle"), "loading it could run code: save it as Parquet or CSV"),
    **dict.fromkeys((".pdf", ".doc", ".docx", ".odt", ".rtf", ".pptx"), "take its text out first"),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz", ".zst"), "unpack it (gzip is read)"),
}
"""Endings of files that hold data and are not read, each with what would be right."""

LARGEST_OBJECT = 1 << 26  # Bytes of a file that is read whole to say what is wrong with it

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
    check_readable(path)
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


def check_readable(path: Path) -> None:
    """Raises a DataError for a file of a kind that is not read, and for a JSON file that is one object of many rows."""
    ending = suffix(path)
    if (hint := NOT_READ.get(ending)) is not None and path.is_file():
        raise DataError(f"{path}: a file of the kind {ending} is not read: {hint}")
    lone = _lone_object(path) if ending == ".json" else None
    if lone is not None:
        raise DataError(
            f"{path}: one object, with {shortened(list(lone))}: expected a list of records, [{{...}}, ...], or one on "
            "each line (pandas: to_json(orient='records'))"
        )


def _lone_object(path: Path) -> dict[str, Any] | None:
    """Returns the object that a JSON file is, unless it is a record on a line, with more of them below or not."""
    start = beginning(path).lstrip()
    if not start.startswith("{"):
        return None
    first, _, others = start.partition("\n")
    try:
        found = json.loads(first)
    except ValueError:  # an object of several lines; or no JSON, which reading it says
        if not others.strip() or path.stat().st_size > LARGEST_OBJECT:
            return None
        try:
            found = read_json(path)
        except DataError:
            return None
        return found if isinstance(found, dict) else None
    if others.strip() or not isinstance(found, dict):
        return None
    columns = {len(value) if isinstance(value, list | dict) else 0 for value in found.values()}
    objects = [value for value in found.values() if isinstance(value, list) and all(isinstance(x, dict) for x in value)]
    wraps = any(objects) and found.keys().isdisjoint(("text", "query"))  # {"data": [{...}, ...]}
    return found if wraps or (len(columns) == 1 and max(columns) > 1) else None


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
