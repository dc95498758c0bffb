"""Ids, texts and metadata of the documents that are searched, read by number in microseconds.

Kept in Arrow's file format and mapped into memory: what is not read stays on disk. Knows Arrow; nothing of vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polyencoders.index.rows import OWN_COLUMNS, json_columns, metadata_of

ALWAYS = ("id", "text")


def columns_of(schema: pa.Schema) -> list[str]:
    """Names of what a hit brings: the id, the text, the metadata."""
    return [name for name in schema.names if name in ALWAYS or name not in OWN_COLUMNS]


class Records:
    """Documents by their number.

    Parameters
    ----------
    batches
        In order; number 0 is the first row of the first.
    schema
        Of the table they are from, which says what is metadata and how it is kept.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> None:
        self._batches = batches
        self._as_json = json_columns(schema)
        self._ends = np.cumsum([len(batch) for batch in batches], dtype=np.int64)

    @classmethod
    def open(cls, path: Path) -> Records:
        """What `write` wrote, mapped into memory."""
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return cls([reader.get_batch(i) for i in range(reader.num_record_batches)], reader.schema)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, number: int) -> tuple[str, str | None, dict[str, Any]]:
        """Id, text and metadata of a document."""
        batch = int(np.searchsorted(self._ends, number, side="right"))
        place = int(number - (self._ends[batch - 1] if batch else 0))
        names, columns = self._batches[batch].schema.names, self._batches[batch].columns
        row = {name: column[place].as_py() for name, column in zip(names, columns, strict=True)}
        return row["id"], row["text"], metadata_of(row, self._as_json)


class RecordWriter:
    """Writes batches to a file, as they come."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._columns = columns_of(schema)
        self._schema = pa.schema([schema.field(name) for name in self._columns])
        self._stream = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._stream, self._schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch; columns that are no records' are left out."""
        self._writer.write_batch(batch.select(self._columns).cast(self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        self._stream.close()


def gathered(tables: Iterable[pa.Table], schema: pa.Schema) -> Records:
    """Records of tables in memory."""
    return Records([batch for table in tables for batch in table.to_batches()], schema)
