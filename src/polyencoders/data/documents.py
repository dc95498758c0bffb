"""Streams the documents of an index from a file that may be larger than memory: JSON Lines, CSV, Parquet, plain text.

Metadata is not checked here: an index says itself which it takes.
"""

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.columns import document_column
from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import (
    JSON_SUFFIXES,
    did_you_mean,
    item,
    nothing_left,
    number_left_out,
    numbered_lines,
    suffix,
)
from polyencoders.data.records import TABLES, Records, as_text, check_readable, read_records
from polyencoders.data.tables import LONGEST
from polyencoders.errors import DataError

logger = logging.getLogger(__name__)


class DocumentFile:
    """The documents of a file, one after another. Each loop over it reads the file from the start.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped (recognised by content), or Parquet. The name's ending, before ``.gz``, says which:

        - ``.jsonl``, ``.ndjson``, ``.json``: an object, or a string, on each line. Blank lines are skipped.
          A ``.json`` file may be one list of them, which is read whole.
        - ``.csv``, ``.tsv``: a header, then a document in each row. Values are strings; an empty one is None.
        - ``.xlsx``: the same, in the first sheet of an Excel workbook.
        - ``.parquet``: a document in each row. Times are read to the microsecond.
        - any other: a text on each line, without the white space around it. Blank lines are skipped.
    text
        The field, or column, that holds the text. None: ``text``, the only one, or one with a common name, such as
        ``answer``; a warning says which.
    id
        The field that holds the id, a text or a whole number. It must be there. None: ``id``, where the file has it.

    Raises
    ------
    DataError
        While reading: the file or a document cannot be used; the message begins with the file and the line, in Parquet
        the row. At once: `text` and `id` are the same field.
    MissingExtraError
        The file is Parquet and ``pyarrow`` is not installed, or Excel's and ``openpyxl`` is not.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "menu.csv")
    >>> _ = path.write_text("id,text,price\\n7,Tea is served at four.,2.50\\n8,Coffee is out.,\\n")
    >>> for document in DocumentFile(path):
    ...     print(document)
    {'text': 'Tea is served at four.', 'id': '7', 'price': '2.50'}
    {'text': 'Coffee is out.', 'id': '8', 'price': None}
    """

    def __init__(self, path: str | os.PathLike[str], text: str | None = None, id: str | None = None) -> None:
        if text is not None and text == id:
            raise DataError(f'text and id are both "{text}": expected two fields')
        self.path = Path(path)
        self.text = self._text = text
        self.id = id
        self._id = "id" if id is None else id
        self.fraction = 0.0
        """How much the running loop has read, 0 to 1: of the file's bytes (compressed ones) or Parquet's rows."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields ``{"text": str, "id": str, **metadata}`` in the file's order; no ``id`` where the file has none."""
        return self._documents()

    def texts(self) -> Iterator[str]:
        """Yields the texts alone, whatever ids there are."""
        return (document["text"] for document in self._documents(any_ids=True))

    def _documents(self, any_ids: bool = False) -> Iterator[dict[str, Any]]:
        self.fraction = 0.0
        has_id, before = None, number_left_out()
        for place, record in self._records():
            with item(place):
                document = self._document(record)
                if has_id is None:
                    has_id = "id" in document
                elif has_id != ("id" in document) and not any_ids:
                    given = f'no "{self._id}"' if has_id else f'an "{self._id}"'
                    others = "have" if has_id else "lack"
                    raise DataError(f"{given}, which the documents before {others}: expected one in each, or in none")
                yield document
        if has_id is None:
            raise nothing_left(
                self.path, "no documents: the file is empty, or has only a header or blank lines", before
            )
        self.fraction = 1.0

    def _records(self) -> Records:
        check_readable(self.path)
        if suffix(self.path) in (*TABLES, *JSON_SUFFIXES):
            yield from read_records(self.path, self._check_names, self._advance)
            return
        for number, line in numbered_lines(self.path, longest=LONGEST, progress=self._advance):
            yield f"{self.path}:{number}", line.strip()

    def _advance(self, fraction: float) -> None:
        self.fraction = fraction

    def _check_names(self, names: Collection[str]) -> None:
        """Raises a DataError when the text, or an id that was named, is missing, or another field has its name."""
        if self._text is None:
            table = suffix(self.path) in TABLES
            self._text = document_column([name for name in names if name != self._id], only=table)
            if self._text != "text":
                logger.warning("%s: the text is %r", self.path, self._text)
        for name in (self._text, self.id):
            if name is not None and name not in names:
                raise DataError(f'no "{name}" field{did_you_mean(name, names)}; given only {shortened(list(names))}')
        for name, field, what in (("text", self._text, "text"), ("id", self._id, "id")):
            if name in names and name not in (self._text, self._id):
                raise DataError(
                    f'the field "{name}" beside "{field}", which is the document\'s {what}: rename one, or leave it out'
                )

    def _document(self, record: Any) -> dict[str, Any]:
        if isinstance(record, str):
            record = {self.text or "text": record}
        if not isinstance(record, dict):
            hint = "; JSON Lines has one object a line, not one list" * isinstance(record, list)
            name = self._text or "text"
            raise DataError(f'expected a string or an object with a "{name}" field, given {shortened(record)}{hint}')
        self._check_names(record.keys())
        assert self._text is not None
        record = dict(record)
        text = record.pop(self._text)
        text = as_text(text) if suffix(self.path) == ".xlsx" else text
        _check_string(self._text, "" if text is None and suffix(self.path) in (".csv", ".tsv") else text)
        if self._id not in record:
            return {"text": text, **record}
        value = record.pop(self._id)
        if value is None and suffix(self.path) in (".csv", ".tsv"):
            value = ""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        elif not isinstance(value, str):
            raise DataError(f"{self._id}: expected a text or a whole number as the id, given {shortened(value)}")
        _check_string(self._id, value)
        return {"text": text, "id": value, **record}


def _check_string(name: str, value: Any) -> None:
    check_text(name, value)
    if "\0" in value:
        raise DataError(f"{name}: a NUL character, which no text has, in {shortened(value)}")
