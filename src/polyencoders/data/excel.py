"""Reads the first sheet of an Excel workbook, row by row, with openpyxl."""

import zipfile
from collections.abc import Callable, Collection, Iterator
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

from polyencoders.data.examples import shortened
from polyencoders.data.lines import located, logger, opened
from polyencoders.data.tables import by_name, checked_header
from polyencoders.errors import DataError, MissingExtraError

LARGEST = 1 << 30
"""The most bytes of a workbook once it is unpacked: beyond, a small file could fill the memory."""


def excel_rows(
    path: Path, check_names: Callable[[Collection[str]], None], progress: Callable[[float], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the rows under a header as dicts, with the sheet's numbers of rows. Blank rows are skipped.

    Whole numbers come without a decimal point, times as text. Errors name the file and the row. Raises a
    MissingExtraError where ``openpyxl`` is not installed.
    """
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise MissingExtraError("openpyxl", "excel") from None

    with opened(path) as file, located(path):
        try:
            with zipfile.ZipFile(file) as parts:
                if sum(part.file_size for part in parts.infolist()) > LARGEST:
                    raise DataError(f"more than {LARGEST >> 30} GB once unpacked: save it as CSV")
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = book.worksheets[0]
            if len(book.worksheets) > 1:
                said = "%s: the first of %d sheets is read, %r; another is read where it is put first"
                logger.warning(said, path, len(book.worksheets), sheet.title)
            yield from _named(path, sheet.iter_rows(values_only=True), check_names, progress, sheet.max_row)
        except (DataError, GeneratorExit):
            raise
        except Exception as error:  # openpyxl lets many kinds through, of XML, zip and its own
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"not an Excel workbook (.xlsx), or damaged ({shortened(reason)[1:-1]})") from None


def _named(
    path: Path,
    rows: Iterator[tuple[Any, ...]],
    check_names: Callable[[Collection[str]], None],
    progress: Callable[[float], None],
    last: int | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    header: list[str] = []
    first = 0  # The header's row
    for number, cells in enumerate(rows, start=1):
        values = [_value(cell) for cell in cells]
        while values and values[-1] is None:
            values.pop()
        if not values:
            continue
        if not header:
            header, first = ["" if value is None else str(value) for value in values], number
            check_names(checked_header(path, header))
            continue
        with located(f"row {number}"):
            if len(values) > len(header):
                raise DataError(
                    f"{len(values)} cells, and {len(header)} in row {first}, the first that is not blank, which holds "
                    "the names of the columns: take out what stands above the names"
                )
            row = by_name(header, values + [None] * (len(header) - len(values)))
        progress(min(1.0, number / (last or number)))
        yield number, row


def _value(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell if cell.strip() else None
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return str(cell) if isinstance(cell, date | time | timedelta) else cell
