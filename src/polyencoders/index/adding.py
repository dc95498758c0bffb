"""Documents into an index: a chunk at a time, each chunk one version, nothing encoded that was encoded before.

Knows rows, models and the table. A chunk that is written is acknowledged; an interruption loses what of the next one
was encoded, and the same call goes on from there, because what is there already is recognised by its contents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.index.rows import OWN_COLUMNS, Document, chunks, metadata_columns
from polyencoders.index.table import Table

CHUNK = 4_096
"""Documents in a version: what an interruption costs, and what is in memory at a time."""

Vectors = NDArray[np.float32]


@dataclass
class Added:
    """What an `add` did, or has done so far."""

    added: int = 0
    """New documents."""
    replaced: int = 0
    """Documents whose id was there with other contents."""
    unchanged: int = 0
    """Documents that were there just so, or came twice."""
    encoded: int = 0
    """Texts that the model read; the others' vectors were there."""

    @property
    def total(self) -> int:
        """Documents given."""
        return self.added + self.replaced + self.unchanged


def add(
    table: Table,
    rows: Iterable[Any],
    encode: Callable[[list[str], Callable[[int], object]], Vectors],
    advance: Callable[[int], object] = lambda documents: None,
    chunk: int = CHUNK,
) -> Added:
    """Add rows, or replace those whose ids are there.

    Parameters
    ----------
    table
        The latest version.
    rows
        Texts, or mappings as `rows.document` takes them; read once, a chunk at a time.
    encode
        Texts, and what to call with the number of texts done, to vectors `(n, d)`.
    advance
        Called with a number of documents that are done.
    chunk
        Documents written together.
    """
    if isinstance(rows, str | Mapping):
        raise TypeError(f"documents: expected a list of texts or mappings, got a single {type(rows).__name__}")
    done = Added()
    table.refresh()
    reading = Counted(rows)
    for documents in chunks(reading, chunk):
        fresh = not_there(table, documents)
        settled = reading.since() - len(fresh)
        done.unchanged += settled
        advance(settled)
        if fresh:
            vectors, encoded = vectors_of(table, fresh, encode, advance)
            inserted, updated = put(table, fresh, vectors)
            done.added += inserted
            done.replaced += updated
            done.encoded += encoded
    return done


def put(table: Table, documents: list[Document], vectors: Vectors) -> tuple[int, int]:
    """Write documents with their vectors, as one version; gives how many were new, and how many replaced.

    Of those with the same id, the last.
    """
    last = list({one.id: place for place, one in enumerate(documents)}.values())
    if len(last) < len(documents):
        documents, vectors = [documents[place] for place in last], vectors[last]
    with table.changing():
        rows = columns_of_documents(documents, table.schema)
        return table.put(with_vectors(rows, vectors, table.schema))


def columns_of_documents(documents: list[Document], schema: pa.Schema) -> pa.Table:
    """Documents in columns, those of their metadata included; without vectors."""
    metadata = metadata_columns(documents, schema)
    arrays = [
        pa.array([one.id for one in documents], pa.string()),
        pa.array([one.text for one in documents], pa.string()),
        pa.array([one.text_hash for one in documents], pa.string()),
        pa.array([one.content_hash for one in documents], pa.string()),
        *metadata.values(),
    ]
    fields = [schema.field(name) for name in OWN_COLUMNS if name != "vector"]
    return pa.table(arrays, schema=pa.schema([*fields, *metadata]))


def with_vectors(rows: pa.Table, vectors: Vectors, schema: pa.Schema) -> pa.Table:
    """Documents in columns, and their vectors `(n, d)` in another."""
    field = schema.field("vector")
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    return rows.append_column(field, pa.FixedSizeListArray.from_arrays(flat, field.type.list_size))


class Counted:
    """An iterable that counts what was taken from it."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = iter(rows)
        self._taken = 0

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> Any:
        row = next(self._rows)
        self._taken += 1
        return row

    def since(self) -> int:
        """How many were taken since it was asked last."""
        taken, self._taken = self._taken, 0
        return taken


def not_there(table: Table, documents: list[Document]) -> list[Document]:
    """The documents that the table does not hold just so."""
    found = table.find("id", [one.id for one in documents], ["id", "content_hash"])
    there = dict(zip(found["id"].to_pylist(), found["content_hash"].to_pylist(), strict=True))
    return [one for one in documents if there.get(one.id) != one.content_hash]


def vectors_of(
    table: Table,
    documents: list[Document],
    encode: Callable[[list[str], Callable[[int], object]], Vectors],
    advance: Callable[[int], object],
) -> tuple[Vectors, int]:
    """Vectors of documents, and how many texts were encoded for them: those that no document has, each once."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(documents):
        places.setdefault(one.text_hash, []).append(place)
    vectors = np.empty((len(documents), table.dimension), dtype=np.float32)
    known = table.find("text_hash", list(places), ["text_hash", "text", "vector"])
    texts = {one.text_hash: str(one.text) for one in documents}
    kept = known["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, table.dimension)
    for text_hash, text, vector in zip(known["text_hash"].to_pylist(), known["text"].to_pylist(), kept, strict=True):
        if text == texts[text_hash] and text_hash in places:
            of_it = places.pop(text_hash)
            vectors[of_it] = vector
            advance(len(of_it))
        elif text != texts[text_hash]:
            continue  # a text kept without contents of its own, or a damaged one
    if places:
        several = sum(len(of_it) - 1 for of_it in places.values())
        fresh = encode([texts[text_hash] for text_hash in places], advance)
        for of_it, vector in zip(places.values(), fresh, strict=True):
            vectors[of_it] = vector
        advance(several)
    return vectors, len(places)
