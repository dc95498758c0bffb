"""Streams the documents of an index from a file that may be larger than memory: JSON Lines, CSV, Parquet, plain text.

Metadata is not checked here: an index says itself which it takes.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import JSON_SUFFIXES, did_you_mean, located, numbered_lines, opened, parse_json, suffix
from polyencoders.data.tables import LONGEST, check_distinct, named_rows
from polyencoders.errors import DataError, MissingExtraError

_Records = Iterator[tuple[int, dict[str, Any]]]  # the numbers of lines or rows, and what is in them


class DocumentFile:
    """The documents of a file, one after another. Each loop over it reads the file from the start.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped (recognised by content), or Parquet. The name's ending, before ``.gz``, says which:

        - ``.jsonl``, ``.ndjson``, ``.json``: an object, or a string, on each line. Blank lines are skipped.
        - ``.csv``, ``.tsv``: a header, then a document in each row. Values are strings; an empty one is None.
        - ``.parquet``: a document in each row. Times are read to the microsecond.
        - any other: a text on each line, without the white space around it. Blank lines are skipped.
    text
        The field, or column, that holds the text.
    id
        The field that holds the id, a text or a whole number. It must be there. None: ``id``, where the file has it.

    Raises
    ------
    DataError
        While reading: the file or a document cannot be used; the message begins with the file and the line, in Parquet
        the row. At once: `text` and `id` are the same field.
    MissingExtraError
        The file is Parquet and ``pyarrow`` is not installed.

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

    def __init__(self, path: str | os.PathLike[str], text: str = "text", id: str | None = None) -> None:
        if text == id:
            raise DataError(f'text and id are both "{text}": expected two fields')
        self.path = Path(path)
        self.text = text
        self.id = id
        self._id = "id" if id is None else id
        self.fraction = 0.0
        """How much the running loop has read, 0 to 1: of the file's bytes (compressed ones) or Parquet's rows."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields ``{"text": str, "id": str, **metadata}`` in the file's order; no ``id`` where the file has none."""
        self.fraction = 0.0
        ending = suffix(self.path)
        if ending == ".parquet":
            records = _parquet_records(self.path, self._check_names, self._advance)
        elif ending in (".csv", ".tsv"):
            records = self._csv_records("," if ending == ".csv" else "\t")
        else:
            records = self._line_records(ending in JSON_SUFFIXES)
        place = ": row " if ending == ".parquet" else ":"
        has_id = None
        for number, record in records:
            with located(f"{self.path}{place}{number}"):
                document = self._document(record)
                if has_id is None:
                    has_id = "id" in document
                elif has_id != ("id" in document):
                    given = f'no "{self._id}"' if has_id else f'an "{self._id}"'
                    others = "have" if has_id else "lack"
                    raise DataError(f"{given}, which the documents before {others}: expected one in each, or in none")
            yield document
        if has_id is None:
            raise DataError(f"{self.path}: no documents: the file is empty, or has only a header or blank lines")
        self.fraction = 1.0

    def _line_records(self, is_json: bool) -> _Records:
        for number, line in numbered_lines(self.path, longest=LONGEST, progress=self._advance):
            if not is_json:
                yield number, {self.text: line.strip()}
                continue
            with located(f"{self.path}:{number}"):
                record = parse_json(line, finite=True)
                if isinstance(record, str):
                    record = {self.text: record}
                elif not isinstance(record, dict):
                    raise DataError(
                        f'expected a string or an object with a "{self.text}" field, given {shortened(record)}'
                        + ("; JSON Lines has one object a line, not one list" if isinstance(record, list) else "")
                    )
            yield number, record

    def _csv_records(self, delimiter: str) -> _Records:
        for number, record in named_rows(self.path, delimiter, self._check_names, self._advance):
            # An empty field is None, but not where the text or the id should be.
            needed = (self.text, self._id)
            yield number, {name: value if value or name in needed else None for name, value in record.items()}

    def _advance(self, fraction: float) -> None:
        self.fraction = fraction

    def _check_names(self, names: Collection[str]) -> None:
        """Raises a DataError when the text, or an id that was named, is missing, or another field has its name."""
        for name in (self.text, self.id):
            if name is not None and name not in names:
                raise DataError(f'no "{name}" field{did_you_mean(name, names)}; given only {shortened(list(names))}')
        for name, field, what in (("text", self.text, "text"), ("id", self._id, "id")):
            if name in names and name not in (self.text, self._id):
                raise DataError(
                    f'the field "{name}" beside "{field}", which is the document\'s {what}: rename one, or leave it out'
                )

    def _document(self, record: dict[str, Any]) -> dict[str, Any]:
        self._check_names(record.keys())
        text = record.pop(self.text)
        _check_string(self.text, text)
        if self._id not in record:
            return {"text": text, **record}
        value = record.pop(self._id)
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


def _parquet_records(
    path: Path, check_names: Callable[[Collection[str]], None], progress: Callable[[float], None]
) -> _Records:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "index") from None

    if path.suffix.lower() == ".gz":
        raise DataError(f"{path}: a gzipped Parquet file, which cannot be read in parts: unpack it first")
    number = 0
    with opened(path) as file, located(path):
        try:
            # Not buffered ahead: a column of a row group may be larger than memory.
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20, coerce_int96_timestamp_unit="us")
            schema = table.schema_arrow
            check_distinct(schema.names)
            check_names(schema.names)
            for field in schema:
                if _is_binary(field.type):
                    raise DataError(f'the column "{field.name}" is binary ({field.type}), expected text: leave it out')
            readable = pa.schema([(field.name, _python_type(field.type)) for field in schema])
            for batch in table.iter_batches(256):
                for record in _python_values(batch.cast(readable, safe=False), number):
                    number += 1
                    progress(number / table.metadata.num_rows)
                    yield number, record
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            after = f" after row {number}" if number else ""
            raise DataError(f"not a Parquet file, or damaged{after} ({shortened(reason)[1:-1]})") from None


def _is_binary(kind: Any) -> bool:
    """Tells whether there are bytes anywhere in a column's values."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return _is_binary(kind.storage_type)
    if types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    if types.is_nested(kind):
        return any(_is_binary(kind.field(i).type) for i in range(kind.num_fields))
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in tests)


def _python_type(kind: Any) -> Any:
    """Returns the type with microseconds in place of nanoseconds, which Python's times lack."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) and kind.unit == "ns" else kind


def _python_values(batch: Any, before: int) -> list[dict[str, Any]]:
    """Returns a batch's rows as dicts. An error names the row, of which `before` came earlier, and the column."""
    unusable = (ValueError, OverflowError, KeyError)  # invalid UTF-8, the year 10,000, no such time zone
    try:
        return list(batch.to_pylist())
    except unusable:
        for i in range(batch.num_rows):
            for name, array in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    array[i].as_py()
                except unusable as error:
                    row = before + i + 1
                    raise DataError(f"row {row}: {name}: a value that Python cannot hold ({error})") from None
        raise
