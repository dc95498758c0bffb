"""What adding documents comes to, told before a text is encoded: what `adding.py` finds out a chunk at a time.

Chunks can then be encoded in any order, and anywhere, and come out as if one had been added after the other: which
documents are there already, which are replaced by later ones, and which text has its vector from an earlier chunk.
Knows rows and the table; nothing of models or vectors.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from polyencoders.index.adding import Counted, columns_of_documents, not_there
from polyencoders.index.rows import Document, chunks, text_hash_of
from polyencoders.index.table import Table

BORROWED = "_borrowed"
"""The column that tells whether an earlier chunk has a document's text, and so its vector."""

_DIGEST = 16
"""Bytes of a hash."""


class Plan:
    """Documents of chunks that are yet to be encoded; some 400 bytes are kept of each.

    Parameters
    ----------
    table
        One version, held fast.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.schema = table.schema
        """Of the table when all is added."""
        self.unchanged = 0
        """Documents that are there just so, or come twice."""
        self.superseded: dict[int, list[int]] = {}
        """By chunk the places of documents that a later chunk replaces."""
        self.lent: dict[int, set[str]] = {}
        """By chunk the hashes of texts that a later chunk has as well."""
        self._empty = not len(table)
        self._numbers: dict[bytes, int] = {}  # of a document, by its id
        self._contents = bytearray()  # the hash of each, by its number
        self._starts: list[int] = []  # number of the first document, by chunk
        self._texts: dict[bytes, int] = {}  # the chunk that has a text first

    def chunks(
        self, rows: Iterable[Any], size: int, read: Callable[[int], object] = lambda documents: None
    ) -> Iterator[pa.Table]:
        """The documents to be written of each chunk, without vectors, and with the column `BORROWED`.

        Parameters
        ----------
        rows
            As `add` takes them.
        size
            Of a chunk, as it is read.
        read
            Called with a number of documents that were read.

        Raises
        ------
        DataError
            A document cannot be used.
        """
        if isinstance(rows, str | Mapping):
            raise TypeError(f"documents: expected a list of texts or mappings, got a single {type(rows).__name__}")
        reading = Counted(rows)
        for documents in chunks(reading, size):
            fresh = self._fresh(documents)
            number = reading.since()
            read(number)
            self.unchanged += number - len(fresh)
            if not fresh:
                continue
            table = columns_of_documents(fresh, self.schema)
            new = [field for field in table.schema if field.name not in self.schema.names]
            self.schema = pa.schema([*self.schema, *new], self.schema.metadata)
            borrowed = self._remember(fresh)
            yield table.append_column(BORROWED, pa.array(borrowed))

    def _fresh(self, documents: list[Document]) -> list[Document]:
        """Those that are not there just so, be it in the table or in an earlier chunk."""
        before = {one.id: self._numbers.get(_digest_of_id(one.id)) for one in documents}
        unseen = [one for one in documents if before[one.id] is None]
        wanted = {one.id for one in (unseen if self._empty or not unseen else not_there(self.table, unseen))}
        for one in documents:
            number = before[one.id]
            if number is not None and self._content(number) != bytes.fromhex(one.content_hash):
                wanted.add(one.id)
        return [one for one in documents if one.id in wanted]

    def _remember(self, fresh: list[Document]) -> list[bool]:
        """Keep what is to be known of a chunk's documents; gives which of their texts an earlier chunk has."""
        chunk = len(self._starts)
        self._starts.append(len(self._contents) // _DIGEST)
        borrowed = []
        for one in fresh:
            id = _digest_of_id(one.id)
            earlier = self._numbers.get(id)
            if earlier is not None:
                self._supersede(earlier)
            self._numbers[id] = len(self._contents) // _DIGEST
            self._contents += bytes.fromhex(one.content_hash)
            first = self._texts.setdefault(bytes.fromhex(one.text_hash), chunk)
            if first != chunk:
                self.lent.setdefault(first, set()).add(one.text_hash)
            borrowed.append(first != chunk)
        return borrowed

    def _supersede(self, number: int) -> None:
        chunk = bisect_right(self._starts, number) - 1
        self.superseded.setdefault(chunk, []).append(number - self._starts[chunk])

    def _content(self, number: int) -> bytes:
        return bytes(self._contents[number * _DIGEST : (number + 1) * _DIGEST])


def _digest_of_id(id: str) -> bytes:
    return bytes.fromhex(text_hash_of(id))
