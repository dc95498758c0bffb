"""One large JSON list, read an element at a time: the file may be larger than memory. Errors name file and line.

Knows nothing of what an element means.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.examples import shortened
from polyencoders.data.lines import gzip_explained, opened, unzipped
from polyencoders.errors import DataError

_READ = 1 << 20
_SPACE = " \t\r\n"


def json_array(path: Path) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON list, each with the number of the line on which it begins.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped (recognised by content): ``[element, element, ...]``, over as many lines as it may be.

    Raises
    ------
    DataError
        When the file is not such a list, or ends too early.
    """
    with opened(path) as file, gzip_explained(lambda: str(path)):
        yield from _elements(path, unzipped(file))


def _elements(path: Path, stream: io.BufferedIOBase) -> Iterator[tuple[int, Any]]:
    decode = codecs.getincrementaldecoder("utf-8-sig")()
    parse = json.JSONDecoder().raw_decode
    text, at, line, ended, wanted = "", 0, 1, False, _READ

    def more() -> bool:
        """Reads on; what is before the current element is forgotten."""
        nonlocal text, at, ended, wanted
        raw = stream.read(wanted)
        ended = not raw
        try:
            text, at = text[at:] + decode.decode(raw, final=ended), 0
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error.reason}), after line {line}: save the file as UTF-8") from None
        wanted *= 2
        return not ended

    def next_mark() -> str:
        """The next character that is no white space, "" at the end."""
        nonlocal at, line
        while True:
            while at < len(text) and text[at] in _SPACE:
                line += text[at] == "\n"
                at += 1
            if at < len(text) or not more():
                return text[at : at + 1]

    def expect(*marks: str) -> str:
        nonlocal at
        mark = next_mark()
        if mark not in marks or not mark:
            given = shortened(text[at : at + 40]) if mark else "the end of the file"
            raise DataError(f"{path}:{line}: expected {' or '.join(marks)} of a JSON list, given {given}")
        at += 1
        return mark

    expect("[")
    if next_mark() == "]":
        return
    while True:
        next_mark()
        while True:
            try:
                element, end = parse(text, at)
            except json.JSONDecodeError as error:
                # The element may go on in what was not read yet.
                if more():
                    continue
                before = text.count("\n", at, error.pos)
                raise DataError(f"{path}:{line + before}: not valid JSON ({error.msg})") from None
            except (RecursionError, ValueError) as error:
                raise DataError(f"{path}:{line}: not usable JSON ({shortened(str(error))[1:-1]})") from None
            # So may a number, of which a part is one as well.
            whole = not isinstance(element, int | float) or text[end : end + 1] in (*_SPACE, ",", "]")
            if whole and end < len(text):
                break
            end -= at
            if not more():
                break
        yield line, element
        line += text.count("\n", at, end)
        at, wanted = end, _READ
        if expect(",", "]") == "]":
            return
