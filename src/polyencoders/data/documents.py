"""Documents for an index, streamed from a file that may be larger than memory: JSON Lines, CSV, Parquet, plain text.

Every error names the file, the line or row, what was given and what would be right. Knows nothing of indexes: which
metadata one takes is for it to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from polyencoders.data.examples import check_text, shortened
from polyencoders.data.lines import JSON_SUFFIXES, did_you_mean, numbered_lines, opened, parse_json, suffix
from polyencoders.data.tables import LONGEST, check_distinct, named_rows
from polyencoders.errors import DataError

_BATCH = 256
_BUFFER = 1 << 20

_Records = Iterator[tuple[int, dict[str, Any]]]
"""Numbers, of lines or of rows, and what stands there."""


class DocumentFile:
    """The documents of a file, one after another; each loop over it reads the file from the start.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped (recognised by content), or Parquet. The name's ending, before ``.gz``, says what it is:

        - ``.jsonl``, ``.ndjson``, ``.json``: an object, or a string, a line. Blank lines are skipped.
        - ``.csv``, ``.tsv``: a header, then a document a row. Values are strings; an empty one is None.
        - ``.parquet``: a document a row. Times are read to the microsecond.
        - any other: a text a line, without the white space around it. Blank lines are skipped.
    text
        The field, or column, that holds the text.
    id
        The field that holds the id, which must be there. None: the field ``id``, where the file has it.

    Raises
    ------
    DataError
        While reading, when the file or one of its documents cannot be used; the message begins with the file and the
        line, in Parquet the row. At once, when `text` and `id` are the same field.

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
        self._fraction = 0.0

    @property
    def fraction(self) -> float:
        """How much of the file the running loop has read, 0 to 1: bytes (gzipped: compressed ones), in Parquet rows."""
        return self._fraction

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields ``{"text": str, "id": str, **metadata}``, in the file's order; no ``id`` where the file has none."""
        self._fraction = 0.0
        ending = suffix(self.path)
        place = "{path}: row {number}: " if ending == ".parquet" else "{path}:{number}: "
        has_id = None
        for number, record in self._records(ending):
            try:
                document = self._document(record)
                if has_id is None:
                    has_id = "id" in document
                elif has_id != ("id" in document):
                    raise DataError(
                        f'no "{self._id}", which the documents before have: expected one in each, or in none'
                        if has_id
                        else f'an "{self._id}", which the documents before lack: expected one in each, or in none'
                    )
            except DataError as error:
                raise DataError(place.format(path=self.path, number=number) + str(error)) from None
            yield document
        if has_id is None:
            raise DataError(f"{self.path}: no documents: the file is empty, or has only a header or blank lines")
        self._fraction = 1.0

    @property
    def _id(self) -> str:
        return "id" if self.id is None else self.id

    def _records(self, ending: str) -> _Records:
        if ending in JSON_SUFFIXES:
            return _json_records(self.path, self.text, self._advance)
        if ending in (".csv", ".tsv"):
            delimiter = "," if ending == ".csv" else "\t"
            return _csv_records(self.path, delimiter, (self.text, self._id), self._check_names, self._advance)
        if ending == ".parquet":
            return _parquet_records(self.path, self._check_names, self._advance)
        return _text_records(self.path, self.text, self._advance)

    def _advance(self, fraction: float) -> None:
        self._fraction = fraction

    def _check_names(self, names: Collection[str]) -> None:
        """Raises a DataError unless the text, and an id that was named, are among the fields, and clash with none."""
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
        return {"text": text, "id": _checked_id(self._id, record.pop(self._id)), **record}


def read_documents(path: str | os.PathLike[str], text: str = "text", id: str = "id") -> DocumentFile:
    """Documents for an index, read as they are asked for: the file may be larger than memory.

    Parameters
    ----------
    path
        JSON Lines, CSV, TSV, Parquet, or a text a line: see `DocumentFile`.
    text
        The field, or column, that holds the text.
    id
        The field that holds the id: a text or a whole number. A file needs no field ``id``; one of another name that
        is asked for must be there. All other fields are metadata.

    Returns
    -------
    DocumentFile
        Gives a dict a document, each time it is looped over.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "menu.jsonl")
    >>> _ = path.write_text('{"title": "Tea is served at four.", "hours": [16, 17]}')
    >>> documents = read_documents(path, text="title")
    >>> list(documents), documents.fraction
    ([{'text': 'Tea is served at four.', 'hours': [16, 17]}], 1.0)
    """
    return DocumentFile(path, text, None if id == "id" else id)


def _check_string(name: str, value: Any) -> None:
    check_text(name, value)
    if "\0" in value:
        raise DataError(f"{name}: a NUL character, which no text has, in {shortened(value)}")


def _checked_id(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{name}: expected a text or a whole number as the id, given {shortened(value)}")
    _check_string(name, value)
    return value


def _text_records(path: Path, text: str, progress: Callable[[float], None]) -> _Records:
    for number, line in numbered_lines(path, longest=LONGEST, progress=progress):
        yield number, {text: line.strip()}


def _json_records(path: Path, text: str, progress: Callable[[float], None]) -> _Records:
    for number, line in numbered_lines(path, longest=LONGEST, progress=progress):
        try:
            record = parse_json(line, finite=True)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        if isinstance(record, str):
            record = {text: record}
        elif not isinstance(record, dict):
            raise DataError(
                f'{path}:{number}: expected a string or an object with a "{text}" field, given {shortened(record)}'
                + ("; JSON Lines has one object a line, not one list" if isinstance(record, list) else "")
            )
        yield number, record


def _csv_records(
    path: Path,
    delimiter: str,
    never_none: tuple[str, str],
    check_names: Callable[[Collection[str]], None],
    progress: Callable[[float], None],
) -> _Records:
    for number, record in named_rows(path, delimiter, check_names, progress):
        yield number, {name: value if value or name in never_none else None for name, value in record.items()}


def _parquet_records(
    path: Path, check_names: Callable[[Collection[str]], None], progress: Callable[[float], None]
) -> _Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".gz":
        raise DataError(f"{path}: a gzipped Parquet file, which cannot be read in parts: unpack it first")
    number = 0
    with opened(path) as file:
        try:
            # Not buffered ahead: a column of a row group may be larger than memory.
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER, coerce_int96_timestamp_unit="us")
            schema = table.schema_arrow
            check_distinct(schema.names)
            check_names(schema.names)
            for field in schema:
                if _is_binary(field.type):
                    raise DataError(f'the column "{field.name}" is binary ({field.type}), expected text: leave it out')
            rows = table.metadata.num_rows
            for batch in table.iter_batches(_BATCH):
                for record in _python_values(batch, number):
                    number += 1
                    progress(number / rows)
                    yield number, record
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            after = f" after row {number}" if number else ""
            raise DataError(f"{path}: not a Parquet file, or damaged{after} ({shortened(reason)[1:-1]})") from None


def _is_binary(kind: Any) -> bool:
    """Whether bytes are anywhere in a column's values, in whatever they are wrapped."""
    from pyarrow import BaseExtensionType, types

    if isinstance(kind, BaseExtensionType):
        return _is_binary(kind.storage_type)
    if types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    if types.is_nested(kind):
        return any(_is_binary(kind.field(i).type) for i in range(kind.num_fields))
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _python_values(batch: Any, before: int) -> list[dict[str, Any]]:
    """A batch's rows as dicts; the error names the row, of which `before` came earlier."""
    import pyarrow as pa

    arrays = []
    for array in batch.columns:
        # Python's times know no nanoseconds.
        if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
            array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
        elif pa.types.is_duration(array.type) and array.type.unit == "ns":
            array = array.cast(pa.duration("us"), safe=False)
        arrays.append(array)
    batch = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError, KeyError):  # invalid UTF-8, the year 10,000, no such time zone
        for i in range(batch.num_rows):
            for name, array in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    array[i].as_py()
                except (ValueError, OverflowError, KeyError) as error:
                    raise DataError(
                        f"row {before + i + 1}: {name}: a value that Python cannot hold ({error})"
                    ) from None
        raise
