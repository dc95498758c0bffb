"""Reads the lines of a text file, plain or gzipped, and JSON. Errors name the file and the line."""

import difflib
import gzip
import io
import json
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from polyencoders.data.examples import shortened
from polyencoders.errors import DataError

logger = logging.getLogger(__name__)

Row = TypeVar("Row")
Value = TypeVar("Value")

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BLOCK = 1 << 13  # Bytes of a gzip file that are read at a time


def suffix(path: Path) -> str:
    """Returns the ending of a name, before ``.gz``, in lower case: ``.jsonl`` for ``answers.v2.JSONL.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


@contextmanager
def located(place: object) -> Iterator[None]:
    """Puts the place, such as a file and a line number, before the message of any DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


@dataclass
class LeftOut:
    """What was left out because it could not be used: how many items, and what was wrong with the first few."""

    number: int = 0
    first: list[str] = field(default_factory=list)
    last: str = ""

    def note(self, message: str) -> None:
        """Counts an item; the first few messages are kept."""
        self.number += 1
        self.first += [message] * (len(self.first) < 3)
        self.last = message


_left_out: ContextVar[LeftOut | None] = ContextVar("left_out", default=None)


@contextmanager
def leaving_out_bad() -> Iterator[LeftOut]:
    """Makes readers leave out items that they cannot use, and note them, in place of stopping at the first.

    >>> with leaving_out_bad() as left_out:
    ...     for number, text in enumerate(["tea", ""], start=1):
    ...         with item(f"menu.txt:{number}"):
    ...             if not text:
    ...                 raise DataError("the text is empty")
    >>> left_out.number, left_out.first
    (1, ['menu.txt:2: the text is empty'])
    """
    noted = LeftOut()
    token = _left_out.set(noted)
    try:
        yield noted
    finally:
        _left_out.reset(token)


@contextmanager
def item(place: object = None) -> Iterator[None]:
    """Reads one of many items: as `located`, but an error only leaves the item out within `leaving_out_bad`.

    Without `place` the errors name it themselves.
    """
    try:
        with nullcontext() if place is None else located(place):
            yield
    except DataError as error:
        if (noted := _left_out.get()) is None:
            raise
        noted.note(str(error))


def number_left_out() -> int:
    """Returns how many items have been left out so far, for `nothing_left`."""
    noted = _left_out.get()
    return 0 if noted is None else noted.number


def nothing_left(path: Path, empty: str, before: int) -> DataError:
    """Returns the error of a file that gave nothing, `empty`; or that all of it, since `before`, was left out.

    >>> str(nothing_left(Path("menu.txt"), "no dishes: the file is empty", before=0))
    'menu.txt: no dishes: the file is empty'
    >>> with leaving_out_bad() as left_out:
    ...     left_out.note("menu.txt:1: the text is empty")
    ...     str(nothing_left(Path("menu.txt"), "no dishes: the file is empty", before=0))
    'menu.txt: no dishes: all 1 were left out, as they cannot be used (menu.txt:1: the text is empty)'
    """
    noted = _left_out.get()
    if noted is None or noted.number == before:
        return DataError(f"{path}: {empty}")
    what = empty.partition(":")[0]
    number = noted.number - before
    reasons = noted.first[before:] or [noted.last]
    more = "; ..." if number > len(reasons) else ""
    return DataError(
        f"{path}: {what}: all {number:,} were left out, as they cannot be used ({'; '.join(reasons)}{more})"
    )


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a file to read bytes. Errors of the operating system become a DataError."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a directory, expected a file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


class _SmallReads:
    """Reads a file in small blocks. How far ahead `gzip` reads differs between Python versions; progress must not."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, _BLOCK))


def numbered_lines(
    path: Path,
    *,
    blank: bool = False,
    longest: int | None = None,
    progress: Callable[[float], None] | None = None,
    legacy: bool = False,
) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file with their ends, numbered from 1.

    The file may be gzipped, which its content says. It is UTF-8, with or without a byte order mark, or what its byte
    order mark says. With `legacy`, a file in which the first letter beyond ASCII is not UTF-8 is read as Windows-1252,
    and a warning says so. Splits at newlines only, as JSON may hold U+2028. Blank lines are left out unless `blank` is
    set. A line of more than `longest` bytes is refused, so that a file without newlines does not fill the memory.
    `progress` is called before each line with the fraction of the file's bytes read so far; not for a pipe.
    """
    number = 0
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size  # 0 for a pipe, which has no position either
        limit = -1 if longest is None else longest + 1
        encoding, only_ascii = "utf-8", True
        try:
            stream = _unpacked(file)
            marked = next((name for mark, name in _MARKS.items() if stream.peek(4).startswith(mark)), None)
            lines: Any = stream if marked is None else io.TextIOWrapper(stream, marked, newline="\n")
            for number, raw in enumerate(iter(lambda: lines.readline(limit) or None, None), start=1):
                if longest is not None and len(raw) > longest:
                    begin = raw if isinstance(raw, str) else raw[:99].decode(errors="replace")
                    raise DataError(f"{path}:{number}: the line has more than {longest:,} bytes{_list_hint(begin)}")
                if isinstance(raw, str):
                    line = raw
                else:
                    raw = raw.removeprefix(_UTF_8_MARK) if number == 1 else raw
                    try:
                        line = raw.decode(encoding)
                    except UnicodeDecodeError as error:
                        if not (legacy and only_ascii and encoding == "utf-8"):
                            raise _not_utf_8(path, number, raw, error) from None
                        encoding = "cp1252"
                        line = _as_windows_1252(path, number, raw, error)
                    only_ascii = only_ascii and raw.isascii()
                if progress is not None and size:
                    progress(min(1.0, file.tell() / size))
                if blank or line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number + 1}: not {error.encoding.upper()}, as the file's first bytes say"
            ) from None
        except EOFError:
            raise DataError(f"{path}:{number + 1}: the gzip file ends too early (truncated): copy it again") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}:{number + 1}: the gzip file is damaged ({error}): copy it again") from None


_UTF_8_MARK = b"\xef\xbb\xbf"  # The byte order mark that some editors write
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    """Returns a file's bytes, unpacked where it is gzipped."""
    if file.peek(2)[:2] != b"\x1f\x8b":
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=cast(io.BufferedReader, _SmallReads(file)), mode="rb"))


def beginning(path: Path, size: int = 1 << 14) -> str:
    """Returns the beginning of a text file, to find out how it is written; empty for a pipe, which is read once."""
    with opened(path) as file:
        if not file.seekable():
            return ""
        try:
            start = _unpacked(file).read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):  # reading it says so
            return ""
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8-sig")
    return start.decode(marked, errors="replace")


def _not_utf_8(path: Path, number: int, raw: bytes, error: UnicodeDecodeError) -> DataError:
    where = f"byte 0x{raw[error.start]:02x} at column {error.start + 1}"
    return DataError(f"{path}:{number}: not UTF-8 ({where}): save the file as UTF-8")


def _as_windows_1252(path: Path, number: int, raw: bytes, error: UnicodeDecodeError) -> str:
    """Decodes the first line that is not UTF-8, and shows how it is read, so that people see whether that is right."""
    try:
        line = raw.decode("cp1252")
    except UnicodeDecodeError:
        raise _not_utf_8(path, number, raw, error) from None
    shown = line[max(0, error.start - 20) : error.start + 20].strip()
    logger.warning("%s: not UTF-8, read as Windows-1252: line %d has %s", path, number, shortened(shown))
    return line


def parsed(
    path: Path, rows: Iterable[tuple[object, Row]], parse: Callable[[Row], Value], empty: str | None = None
) -> list[Value]:
    """Parses numbered lines or rows. Errors begin with path and number; `empty` is the error when there are no rows."""
    before = number_left_out()
    values = []
    for number, row in rows:
        with item(f"{path}:{number}"):
            values.append(parse(row))
    if empty and not values:
        raise nothing_left(path, empty, before)
    return values


def json_lines(path: Path, parse: Callable[[Any], Value]) -> list[Value]:
    """Parses the records of a JSON Lines file."""
    empty = "no examples: the file is empty, expected one JSON object a line"
    return parsed(path, numbered_lines(path), lambda line: parse(parse_json(line)), empty)


def numbered(what: str, records: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yields the records of a JSON list with their places, such as `` dialogue 2 of 7``, for `parsed`."""
    for number, record in enumerate(records, start=1):
        yield f" {what} {number} of {len(records)}", record


def check_object(record: object, fields: str) -> None:
    """Raises a DataError unless a JSON value is an object. `fields` says what it should have."""
    if not isinstance(record, dict):
        raise DataError(f"expected an object with {fields}, given {shortened(record)}")


def check_fields(record: dict[str, Any], *names: str) -> None:
    """Raises a DataError unless a JSON object has all of the fields."""
    for name in names:
        if name not in record:
            raise DataError(f'no "{name}"; given only {shortened(list(record))}')


def check_list(name: str, value: object, what: str, *, empty: bool = False) -> None:
    """Raises a DataError unless the value of a field is a list. Only with `empty` may it be empty."""
    if not isinstance(value, list) or not (value or empty):
        raise DataError(f"{name}: expected a list of {what}, given {shortened(value)}")


def read_json(path: Path) -> Any:
    """Reads a file that is one JSON value. Errors begin with the file."""
    text = "".join(line for _, line in numbered_lines(path, blank=True))
    if not text.strip():
        raise DataError(f"{path}: the file is empty, expected JSON")
    with located(path):
        return parse_json(text, is_line=False)


def parse_json(text: str, *, finite: bool = False, is_line: bool = True) -> Any:
    """Parses a line of JSON, or a whole file of it.

    Raises a DataError when the text is not JSON, has a field twice, or cannot be held (nested too deep, a number of
    thousands of digits); with `finite`, also for NaN and infinite numbers, which Python reads and JSON does not know.
    """

    def refused(name: str) -> NoReturn:
        raise DataError(f"not valid JSON: {name[:20]} is no number, write null: {shortened(text.strip())}")

    def number(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):  # 1e999
            refused(digits)
        return value

    hooks: dict[str, Any] = {"parse_constant": refused, "parse_float": number} if finite else {}
    try:
        # Without the line's end, so that an error there is not said to be in column 1 of the next line.
        return json.loads(text.rstrip("\r\n"), object_pairs_hook=_object, **hooks)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        where = f"{error.msg}, {f'line {error.lineno}, ' if error.lineno > 1 else ''}column {error.colno}"
        hint = _list_hint(text) if is_line else ""
        raise DataError(f"not valid JSON ({where}): {shortened(text.strip())}{hint}") from None
    except RecursionError:
        raise DataError(f"not usable JSON (nested too deep): {shortened(text.strip())}") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"not usable JSON ({error}): {shortened(text.strip())}") from None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns the end of an error message, such as ``, did you mean "Texts"?``; empty when no name is similar."""
    by_letters = {other.lower(): other for other in names}
    match = difflib.get_close_matches(name.lower(), by_letters, n=1)
    return f', did you mean "{by_letters[match[0]]}"?' if match else ""


def _list_hint(line: str) -> str:
    return "; JSON Lines has one object a line, not one list" if line.lstrip().startswith("[") else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field that is given twice; `json` would silently keep the last."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise DataError(f'the field "{next(name for name in names if names.count(name) > 1)}" is given twice')
    return record
