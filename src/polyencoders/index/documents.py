"""What a document of an index is: an id, a text and metadata; checked, hashed, and put in columns."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polyencoders.errors import DataError

OWN_COLUMNS = ("id", "text", "text_hash", "content_hash", "vector")
RESERVED = {*OWN_COLUMNS, "score"}
PASSAGE_OF, PASSAGE = "passage_of", "passage"  # Metadata of a passage: its document's id, and which it is, from 1
LONGEST_ID = 1_000
LONGEST_TEXT = 10_000_000
"""Characters: far beyond what a model reads; a file that was read as one text by mistake has more."""

AS_JSON = {b"polyencoders": b"json"}
"""Marks a metadata column whose values are kept as JSON: lists and objects, which cannot be filtered by."""


@dataclass(frozen=True)
class Document:
    """A document to be kept."""

    id: str
    text: str | None  # None only for vectors that are adopted without their texts
    metadata: dict[str, Any]
    text_hash: str
    content_hash: str


def document(row: Any, place: int = 0) -> Document:
    """Check a row: a text; or a mapping with `text`, optionally `id`, and metadata under other names.

    Without an id, a hash of the contents is the id: the same document is then kept once, however often it comes. The
    DataError says which row, by its `place` among all, what was given, and what would be right.

    >>> document({"id": 7, "text": "Pancakes.", "lang": "en"}).metadata
    {'lang': 'en'}
    >>> document("Pancakes.").id == document("Pancakes.").id
    True
    """
    fields: Mapping[Any, Any]
    if isinstance(row, str):
        fields = {"text": row}
    elif isinstance(row, Mapping):
        fields = row
    else:
        raise DataError(f"document {place}: expected a text or a mapping with 'text', got {type(row).__name__}")
    which = f"document {place}" + (f" (id {fields['id']!r})" if fields.get("id") is not None else "")
    text = fields.get("text")
    if not isinstance(text, str):
        there = ", ".join(repr(name) for name in fields) or "nothing"
        raise DataError(f"{which}: 'text' must be a text, got {text!r}; its fields are {there}")
    if not text.strip():
        raise DataError(f"{which}: the text is empty")
    if len(text) > LONGEST_TEXT:
        raise DataError(f"{which}: the text has {len(text):,} characters, expected at most {LONGEST_TEXT:,}")
    metadata = {name: value for name, value in fields.items() if name not in ("id", "text")}
    return made(fields.get("id"), text, metadata, which)


def made(given: Any, text: str | None, metadata: dict[Any, Any], which: str) -> Document:
    """A document whose text is checked already, or missing; `which` begins the messages."""
    for name in metadata:
        # LanceDB 0.40 ends a name at a null character, and cannot read a table again that has a name "" or "*".
        if not isinstance(name, str) or name in ("", "*", *RESERVED) or name[0] == "_" or set(name) & {".", "`", "\0"}:
            raise DataError(
                f"{which}: metadata cannot be named {name!r}: expected a text that is none of "
                f"{', '.join(sorted(RESERVED))} and *, does not begin with an underscore, and has no dot, backtick or "
                "null character"
            )
    try:
        text_hash = text_hash_of(text) if text is not None else ""
        content = json.dumps([text, metadata], sort_keys=True, ensure_ascii=False, default=_plain).encode()
        if isinstance(given, str):
            given.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{which}: {error.reason} (a lone surrogate): expected text that can be written") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{which}: the metadata cannot be kept ({error})") from None
    content_hash = _hash(content)
    if given is None:
        id = content_hash
    elif isinstance(given, int) and not isinstance(given, bool):
        id = str(given)
    elif isinstance(given, str) and 0 < len(given) <= LONGEST_ID:
        id = given
    else:
        raise DataError(f"{which}: an id must be a text of 1 to {LONGEST_ID:,} characters, or a whole number")
    whose, number = metadata.get(PASSAGE_OF), metadata.get(PASSAGE)
    if whose is not None and id != passage_id(whose, number):
        # A search would show it as a part of that document, which takes it along when it changes.
        raise DataError(
            f"{which}: its metadata {PASSAGE_OF!r} has a name by which an index knows passages: rename it, or give the "
            f"passage as it was kept, with its id {passage_id('ID', 1)!r} for the {PASSAGE} 1 of 'ID'"
        )
    return Document(id, text, metadata, text_hash, content_hash)


def passage_id(whose: Any, number: Any) -> str:
    """The id of a document's passage.

    >>> passage_id("a", 2)
    'a [passage 2]'
    """
    return f"{whose} [passage {number}]"


def rows_of(documents: Iterable[Any]) -> Iterable[Any]:
    """Return what is to be a list or stream of documents; a TypeError if it is a single one."""
    if isinstance(documents, str | Mapping):
        raise TypeError(f"documents: expected a list of texts or mappings, got a single {type(documents).__name__}")
    return documents


def chunks(rows: Iterable[Any], size: int) -> Iterator[tuple[int, list[Document]]]:
    """Numbers of rows, `size` at a time, with their documents: of several with the same id in a chunk, the last."""
    stream, place = iter(rows), 0
    while some := list(islice(stream, size)):
        checked = [document(row, place + i) for i, row in enumerate(some)]
        place += len(some)
        yield len(some), list({one.id: one for one in checked}.values())


def columns_of_documents(documents: list[Document], schema: pa.Schema) -> pa.Table:
    """Documents in columns, with their metadata and without vectors; `schema` has the types that are known so far."""
    names = ("id", "text", "text_hash", "content_hash")
    own = [pa.array([getattr(one, name) for one in documents], pa.string()) for name in names]
    metadata = metadata_columns(documents, schema)
    fields = [schema.field(name) for name in names]
    return pa.table([*own, *metadata.values()], schema=pa.schema([*fields, *metadata]))


def metadata_columns(documents: list[Document], schema: pa.Schema) -> dict[pa.Field, pa.Array]:
    """Metadata in columns, of the schema's types or else the values'; DataError for a value of another type."""
    names = dict.fromkeys(name for one in documents for name in one.metadata)
    columns = {}
    for name in names:
        values = [one.metadata.get(name) for one in documents]
        known = schema.field(name) if name in schema.names else None
        if known is None and all(value is None for value in values):
            continue  # its type is not known yet
        nested = any(isinstance(value, list | tuple | dict | set) for value in values)
        if (known.metadata or {}).get(b"polyencoders") == b"json" if known is not None else nested:
            texts = [
                None if value is None else json.dumps(value, default=_plain, ensure_ascii=False) for value in values
            ]
            columns[known or pa.field(name, pa.string(), metadata=AS_JSON)] = pa.array(texts, pa.string())
            continue
        try:
            array = _array(values, known.type if known is not None else None)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise DataError(_another_type(name, known, documents)) from None
        columns[known or pa.field(name, array.type)] = array
    return columns


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    array = pa.array(values, kind)
    if pa.types.is_integer(array.type) and any(isinstance(value, float) and value % 1 for value in values):
        raise TypeError("it would be rounded")  # Arrow rounds without a word
    return array


def _another_type(name: str, known: pa.Field | None, documents: list[Document]) -> str:
    """A message that names the first document whose value has another type."""
    so_far = known.type if known is not None else None
    for one in documents:
        value = one.metadata.get(name)
        if value is None:
            continue
        try:
            array = _array([value], so_far)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return (
                f"document {one.id!r}: its metadata {name!r} is {value!r}, and that of the documents before is of the "
                f"type {so_far}: expected one type for each name"
            )
        so_far = so_far or array.type
    return f"metadata {name!r}: expected values of one type"


def json_columns(schema: pa.Schema) -> set[str]:
    """Names of the metadata that is kept as JSON."""
    return {field.name for field in schema if (field.metadata or {}).get(b"polyencoders") == b"json"}


def metadata_of(row: dict[str, Any], as_json: set[str]) -> dict[str, Any]:
    """The metadata of a row that was read from the columns, without what is missing."""
    return {
        name: json.loads(value) if name in as_json else value
        for name, value in row.items()
        if value is not None and name not in RESERVED and not name.startswith("_")
    }


Record = tuple[str, str | None, dict[str, Any]]  # Id, text and metadata of a document


def columns_of(schema: pa.Schema) -> list[str]:
    """Names of the columns that a hit brings: the id, the text, the metadata."""
    return [name for name in schema.names if name in ("id", "text") or name not in OWN_COLUMNS]


class Records:
    """Documents by number; number 0 is the first row of the first batch. `schema` is that of their table."""

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> None:
        self._batches = batches
        self._as_json = json_columns(schema)
        self._ends = np.cumsum([len(batch) for batch in batches], dtype=np.int64)

    @classmethod
    def open(cls, path: Path) -> "Records":
        """The records of a file in Arrow's format, mapped into memory."""
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return cls([reader.get_batch(i) for i in range(reader.num_record_batches)], reader.schema)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def texts(self) -> list[str]:
        """The text of each document; an empty one where there is none."""
        return [text or "" for batch in self._batches for text in batch["text"].to_pylist()]

    def read(self, number: int) -> Record:
        """Id, text and metadata of a document."""
        batch = int(np.searchsorted(self._ends, number, side="right"))
        place = int(number - (self._ends[batch - 1] if batch else 0))
        names, columns = self._batches[batch].schema.names, self._batches[batch].columns
        row = {name: column[place].as_py() for name, column in zip(names, columns, strict=True)}
        return row["id"], row["text"], metadata_of(row, self._as_json)


def text_hash_of(text: str) -> str:
    """The hash by which a text is recognised: 32 hexadecimal digits."""
    return _hash(text.encode())


def _plain(value: Any) -> Any:
    """A value that JSON does not know as one it knows; a set in an order that is always the same."""
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
