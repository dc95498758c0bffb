"""Ids, texts and metadata of the documents that are searched, read by number in microseconds.

They are kept in Arrow's file format and mapped into memory: what is not read stays on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polyencoders.index.documents import OWN_COLUMNS, json_columns, metadata_of

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
    def open(cls, path: Path) -> Records:
        """The records of a file in Arrow's format, mapped into memory."""
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        return cls([reader.get_batch(i) for i in range(reader.num_record_batches)], reader.schema)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, number: int) -> Record:
        """Id, text and metadata of a document."""
        batch = int(np.searchsorted(self._ends, number, side="right"))
        place = int(number - (self._ends[batch - 1] if batch else 0))
        names, columns = self._batches[batch].schema.names, self._batches[batch].columns
        row = {name: column[place].as_py() for name, column in zip(names, columns, strict=True)}
        return row["id"], row["text"], metadata_of(row, self._as_json)
