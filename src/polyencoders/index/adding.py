"""The plan by which documents enter an index, and how it is carried out here: each chunk becomes a version.

The plan says what each chunk has to write before any text is encoded. `jobs.py` carries it out on many machines.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.index.documents import Document, chunks, columns_of_documents, rows_of, text_hash_of
from polyencoders.index.table import Table, vectors_in

CHUNK = 4_096  # Documents that are encoded together
BORROWED = "_borrowed"  # The column that tells whether an earlier chunk has a document's text, and so its vector
_DIGEST = 16  # Bytes of a hash

Vectors = NDArray[np.float32]
Encode = Callable[[list[str], Callable[[int], object]], Vectors]
"""Makes `(n, d)` of `n` texts; its second argument is called with numbers of texts that are done."""


class Plan:
    """What is to be written of documents that are not in the table yet; about 400 bytes are kept of each."""

    schema: pa.Schema  # The table's schema when everything planned is written
    superseded: dict[int, list[int]]  # By chunk: places of documents that a later chunk replaces
    lent: dict[int, set[str]]  # By chunk: hashes of texts that a later chunk has as well

    def __init__(self, table: Table) -> None:
        self.table = table
        self.begin()

    def begin(self) -> None:
        """Forget what was planned, as the table holds it now."""
        self.schema = self.table.schema
        self.superseded, self.lent = {}, {}
        self._numbers: dict[bytes, int] = {}  # the number of a document, by its id
        self._contents = bytearray()  # the hash of each document's contents, by its number
        self._starts: list[int] = []  # the number of the first document, by chunk
        self._texts: dict[bytes, int] = {}  # the first chunk that has a text

    def chunks(self, rows: Iterable[Any], size: int) -> Iterator[tuple[int, pa.Table]]:
        """For each chunk: how many documents were read, and in columns those to be written, without vectors."""
        for read, documents in chunks(rows_of(rows), size):
            fresh = self._fresh(documents)
            planned = columns_of_documents(fresh, self.schema)
            new = [field for field in planned.schema if field.name not in self.schema.names]
            self.schema = pa.schema([*self.schema, *new], self.schema.metadata)
            yield read, planned.append_column(BORROWED, pa.array(self._remember(fresh), pa.bool_()))

    def _fresh(self, documents: list[Document]) -> list[Document]:
        """The documents that neither the table nor an earlier chunk has with the same contents."""
        numbers = {one.id: self._numbers.get(bytes.fromhex(text_hash_of(one.id))) for one in documents}
        unseen = [one.id for one in documents if numbers[one.id] is None]
        found = self.table.find("id", unseen, ["id", "content_hash"])
        there = dict(zip(found["id"].to_pylist(), found["content_hash"].to_pylist(), strict=True))
        for id, number in numbers.items():
            if number is not None:
                there[id] = self._contents[number * _DIGEST : (number + 1) * _DIGEST].hex()
        return [one for one in documents if there.get(one.id) != one.content_hash]

    def _remember(self, fresh: list[Document]) -> list[bool]:
        """Keep what later chunks need. Returns which of the texts an earlier chunk has."""
        if not fresh:
            return []
        chunk = len(self._starts)
        self._starts.append(len(self._contents) // _DIGEST)
        borrowed = []
        for one in fresh:
            id = bytes.fromhex(text_hash_of(one.id))
            if (earlier := self._numbers.get(id)) is not None:
                of = bisect_right(self._starts, earlier) - 1
                self.superseded.setdefault(of, []).append(earlier - self._starts[of])
            self._numbers[id] = len(self._contents) // _DIGEST
            self._contents += bytes.fromhex(one.content_hash)
            first = self._texts.setdefault(bytes.fromhex(one.text_hash), chunk)
            if first != chunk:
                self.lent.setdefault(first, set()).add(one.text_hash)
            borrowed.append(first != chunk)
        return borrowed


def vectors_of(
    table: Table, rows: pa.Table, encode: Encode, advance: Callable[[int], object] = lambda documents: None
) -> tuple[Vectors, int]:
    """The vectors `(n, d)` of planned documents, and how many texts were encoded: each once, and none the table has."""
    texts = dict(zip(rows["text_hash"].to_pylist(), rows["text"].to_pylist(), strict=True))
    places: dict[str, list[int]] = {}
    for place, text_hash in enumerate(rows["text_hash"].to_pylist()):
        places.setdefault(text_hash, []).append(place)
    vectors = np.empty((len(rows), table.dimension), dtype=np.float32)
    known = table.find("text_hash", list(places), ["text_hash", "text", "vector"])
    columns = (known["text_hash"].to_pylist(), known["text"].to_pylist(), vectors_in(known))
    for text_hash, text, vector in zip(*columns, strict=True):
        if text == texts[text_hash] and text_hash in places:  # a damaged text lends nothing
            same = places.pop(text_hash)
            vectors[same] = vector
            advance(len(same))
    if places:
        encoded = encode([texts[text_hash] for text_hash in places], advance)
        for same, vector in zip(places.values(), encoded, strict=True):
            vectors[same] = vector
        advance(sum(map(len, places.values())) - len(places))
    return vectors, len(places)


def with_vectors(rows: pa.Table, vectors: Vectors) -> pa.Table:
    """Rows with their vectors `(n, d)` in the column `vector`, and without the column `BORROWED`."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    kept = rows.drop_columns([BORROWED]) if BORROWED in rows.schema.names else rows
    return kept.append_column("vector", column)


@dataclass
class Added:
    """What an `add` has done so far."""

    added: int = 0  # New documents
    replaced: int = 0  # Documents whose id was there with other contents
    unchanged: int = 0  # Documents that were there with the same contents, or came twice
    encoded: int = 0  # Texts that the model read; the vectors of the others were there

    @property
    def total(self) -> int:
        """How many documents were given."""
        return self.added + self.replaced + self.unchanged


def add(
    table: Table,
    rows: Iterable[Any],
    encode: Encode,
    advance: Callable[[int], object],
    chunk: int,
    written: Callable[[int], object] = lambda rows: None,
) -> Added:
    """Add documents, or replace those whose ids are there; see `Index.add`.

    After each chunk `written` is told how many rows from the first on are in the table.
    """
    done, given = Added(), 0
    table.refresh()
    plan = Plan(table)
    for read, planned in plan.chunks(rows, chunk):
        given += read
        done.unchanged += read - len(planned)
        advance(read - len(planned))
        if not len(planned):
            written(given)
            continue
        version = table.version
        vectors, encoded = vectors_of(table, planned, encode, advance)
        with table.changing():
            if table.version != version:  # another writer may have added some of the texts meanwhile
                made = dict(zip(planned["text"].to_pylist(), vectors, strict=True))

                def again(texts: list[str], _: object, made: dict[str, Any] = made) -> Vectors:
                    return np.stack([made[text] for text in texts])

                vectors, _ = vectors_of(table, planned, again)
            inserted, updated = table.put(with_vectors(planned, vectors))
        written(given)
        plan.begin()
        done.added += inserted
        done.replaced += updated
        done.encoded += encoded
    return done
