"""The lines of a text file, plain or gzipped, and the JSON that a line may hold. Errors name the file and the line.

Knows nothing of what a line means: examples are in ``jsonl.py``, documents in ``documents.py``.
"""

from __future__ import annotations

import difflib
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from polyencoders.data.examples import shortened
from polyencoders.errors import DataError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


def suffix(path: Path) -> str:
    """The name's ending, before ``.gz``, in small letters: what says how the file is to be read.

    >>> suffix(Path("answers.v2.JSONL.gz")), suffix(Path("answers"))
    ('.jsonl', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The file, open to read bytes; what the system says against it is a DataError."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a directory, expected a file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def unzipped(file: io.BufferedReader) -> io.BufferedReader:
    """The bytes of a file that may be gzipped, which is recognised by content."""
    gzipped = file.peek(2)[:2] == b"\x1f\x8b"
    return io.BufferedReader(gzip.GzipFile(fileobj=file)) if gzipped else file


@contextmanager
def gzip_explained(where: Callable[[], str]) -> Iterator[None]:
    """What is wrong with a gzip file as a DataError that begins with where."""
    try:
        yield
    except EOFError:
        raise DataError(f"{where()}: the gzip file ends too early (truncated): copy it again") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{where()}: the gzip file is damaged ({error}): copy it again") from None


def numbered_lines(
    path: Path,
    *,
    blank: bool = False,
    longest: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, str]]:
    """The lines with their ends, numbered from 1. Splits at newlines only: JSON may hold U+2028.

    Parameters
    ----------
    path
        A file of UTF-8, with or without a byte order mark, plain or gzipped (recognised by content).
    blank
        Whether blank lines are given too.
    longest
        How many bytes a line may have, so that a file without newlines does not fill the memory.
    progress
        Called before each line with the fraction of the file's bytes read so far; never, where the file is a pipe.
    """
    number = 0
    with opened(path) as file:
        stream = unzipped(file)
        size = os.fstat(file.fileno()).st_size  # 0 for a pipe, which has no position either
        limit = -1 if longest is None else longest + 1
        with gzip_explained(lambda: f"{path}:{number + 1}"):
            for number, raw in enumerate(iter(lambda: stream.readline(limit), b""), start=1):
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark some editors write
                if longest is not None and len(raw) > longest:
                    hint = _list_hint(raw[:99].decode(errors="replace"))
                    raise DataError(f"{path}:{number}: the line has more than {longest:,} bytes{hint}")
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1}): "
                        "save the file as UTF-8"
                    ) from None
                if progress is not None and size:
                    progress(min(1.0, file.tell() / size))
                if blank or line.strip():
                    yield number, line


def read_json(path: Path) -> Any:
    """What a file that is JSON as a whole says; errors begin with the file.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped.
    """
    text = "".join(line for _, line in numbered_lines(path, blank=True))
    if not text.strip():
        raise DataError(f"{path}: the file is empty, expected JSON")
    try:
        return parse_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def parse_json(line: str, *, finite: bool = False) -> Any:
    """What a line of JSON says.

    Parameters
    ----------
    line
        One line, or all lines of a file that is JSON as a whole.
    finite
        Whether numbers that are none, which Python reads and JSON does not know, are refused.

    Raises
    ------
    DataError
        When it is not JSON, has a field twice, or cannot be held (nested too deep, a number of thousands of digits).

    Examples
    --------
    >>> parse_json('{"text": "Tea?", "price": NaN}', finite=True)
    Traceback (most recent call last):
    polyencoders.errors.DataError: not valid JSON: NaN is no number, write null: '{"text": "Tea?", "price": NaN}'
    """

    def refused(name: str) -> NoReturn:
        raise DataError(f"not valid JSON: {name[:20]} is no number, write null: {_quoted(line)}")

    def number(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):  # 1e999
            refused(digits)
        return value

    hooks: dict[str, Any] = {"parse_constant": refused, "parse_float": number} if finite else {}
    try:
        # Without its end: what is missing at the end of a line is not in column 1 of the next.
        return json.loads(line.rstrip("\r\n"), object_pairs_hook=_object, **hooks)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        where = f"{error.msg}, {f'line {error.lineno}, ' if error.lineno > 1 else ''}column {error.colno}"
        raise DataError(f"not valid JSON ({where}): {_quoted(line)}{_list_hint(line)}") from None
    except RecursionError:
        raise DataError(f"not usable JSON (nested too deep): {_quoted(line)}") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"not usable JSON ({error}): {_quoted(line)}") from None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of an error about a name: the name that comes close, or nothing.

    >>> did_you_mean("text", ["id", "Texts"]), did_you_mean("text", ["id"])
    (', did you mean "Texts"?', '')
    """
    by_letters = {other.lower(): other for other in names}
    match = difflib.get_close_matches(name.lower(), by_letters, n=1)
    return f', did you mean "{by_letters[match[0]]}"?' if match else ""


def _quoted(line: str) -> str:
    return shortened(line.strip())


def _list_hint(line: str) -> str:
    return "; JSON Lines has one object a line, not one list" if line.lstrip().startswith("[") else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field written twice, of which JSON would silently keep the last."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise DataError(f'the field "{next(name for name in names if names.count(name) > 1)}" is given twice')
    return record
