"""Documents on disk: a LanceDB table in which every change is a version, and the lock under which it is changed.

Knows columns, versions and filters; nothing of models, and of vectors only how long they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.errors import IndexingError, MissingExtraError
from polyencoders.index.filters import check_filter, shown
from polyencoders.index.fragments import Written, commit
from polyencoders.index.seals import Seals

NAME = "documents"
FORMAT = 1
_FORMAT_KEY, _MAKER_KEY = b"polyencoders.format", b"polyencoders.maker"
_LOCK = ".lock"
_LISTED_AT_ONCE = 10_000
_CACHE_BYTES = 64 << 20
_IN_THE_ENGINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")
_OF_A_FILTER = ("schema error", "parse", "sql", "type", "return a boolean", "filter expression")
"""What the engine says of a filter that it cannot use, and of nothing else."""


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        raise MissingExtraError("lancedb", "index") from None
    return lancedb


class Table:
    """A LanceDB table of documents in a folder of its own; or one version of it, held fast.

    Columns: `id`, `text`, `text_hash`, `content_hash`, `vector`, and one for each name of the metadata.
    """

    def __init__(self, path: Path, table: Any) -> None:
        self.path = path
        self._table = table
        self.seals = seals_of(path)

    @classmethod
    def create(cls, path: Path, dimension: int, maker: str | None) -> Table:
        """A new, empty table; the folder must be empty."""
        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                pa.field("text", pa.string()),
                pa.field("text_hash", pa.string()),
                pa.field("content_hash", pa.string()),
                pa.field("vector", pa.list_(pa.float32(), dimension)),
            ],
            metadata={_FORMAT_KEY: str(FORMAT), _MAKER_KEY: maker or ""},
        )
        with _explained(path):
            made = cls(path, connect(path).create_table(NAME, schema=schema))
            made.seals.seal(first=True)
        return made

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> Table:
        """The table as it is, or one version of it.

        Raises
        ------
        IndexingError
            There is none, it cannot be read, or it is of a later format.
        """
        if not path.is_dir():
            raise IndexingError(f"{path}: no such index; `polyencoders index create` makes one")
        if not (path / f"{NAME}.lance").is_dir():
            raise IndexingError(f"{path} is a directory without an index: it has no {NAME}.lance")
        with _explained(path):
            table = connect(path).open_table(NAME)
            if version is not None:
                table.checkout(version)
            metadata = table.schema.metadata or {}
        written = metadata.get(_FORMAT_KEY, b"").decode()
        if not written:
            raise IndexingError(
                f"{path}: the index does not say its format: it is damaged, or was not made by polyencoders. "
                f"`polyencoders index verify {path}` checks every file of it"
            )
        if written != str(FORMAT):
            raise IndexingError(f"{path} is an index of format {written}; this version of polyencoders reads {FORMAT}")
        return cls(path, table)

    def at(self, version: int) -> Table:
        """One version, held fast: what is changed later does not show."""
        return Table.open(self.path, version)

    # -- what there is -----------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Number of the version that is looked at."""
        with _explained(self.path):
            return int(self._table.version)

    @property
    def schema(self) -> pa.Schema:
        """Of all columns."""
        return self._table.schema

    @property
    def maker(self) -> str | None:
        """What was kept of the model: with the table, or, where queries have another one since, with the vectors."""
        later = (self.schema.field("vector").metadata or {}).get(_MAKER_KEY)
        return (self.schema.metadata[_MAKER_KEY] if later is None else later).decode() or None

    @property
    def dimension(self) -> int:
        """Of a vector."""
        return int(self.schema.field("vector").type.list_size)

    def refresh(self) -> None:
        """Look at the latest version."""
        with _explained(self.path):
            self._table.checkout_latest()

    def __len__(self) -> int:
        with _explained(self.path):
            return int(self._table.count_rows())

    def versions(self) -> list[dict[str, Any]]:
        """Number and time of each version that is kept."""
        with _explained(self.path):
            return list(self._table.list_versions())

    def row_ids(self, where: str | None = None) -> NDArray[np.uint64]:
        """Where the documents lie, in the order of the table."""
        with _explained(self.path, where):
            query = self._table.search().select(["_rowid"])
            found = (query.where(where) if where is not None else query).to_arrow()
        return np.asarray(found["_rowid"].to_numpy())

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of the documents at these places, in the order given."""
        with _explained(self.path):
            query = self._table.take_row_ids([int(row) for row in row_ids]).select(list(columns)).with_row_id()
            found = query.to_arrow()
        order = {row: place for place, row in enumerate(found["_rowid"].to_pylist())}
        missing = [row for row in row_ids if int(row) not in order]
        if missing:
            raise IndexingError(f"{self.path}: {len(missing)} documents that were found are not there any more")
        return found.take(pa.array([order[int(row)] for row in row_ids], pa.int64()))

    def find(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Some columns of the documents of which a column has one of the values."""
        found = []
        for start in range(0, max(1, len(values)), _LISTED_AT_ONCE):
            where = _is_one_of(column, values[start : start + _LISTED_AT_ONCE])
            with _explained(self.path):
                found.append(self._table.search().where(where).select(list(columns)).to_arrow())
        return pa.concat_tables(found)

    def batches(self, columns: Sequence[str], rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """All documents, a batch at a time, with their places in `_rowid`."""
        with _explained(self.path):
            query = self._table.search().select(list(columns)).with_row_id(True)
            yield from query.to_batches(batch_size=rows)

    # -- changing it -------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the latest version, while no other writer does; what was changed is sealed at the end.

        A writer that is killed lets go of the lock. What it had begun is not seen by anyone.
        """
        from filelock import FileLock

        with FileLock(self.path / _LOCK):
            self.refresh()
            yield
            try:
                self.seals.seal()
            except ValueError as error:
                raise IndexingError(f"{self.path}: {error}; `polyencoders index verify` says more") from None
            except OSError:
                pass  # a full disk: what was changed is there, and the next writer seals it

    def add_columns(self, schema: pa.Schema) -> None:
        """Have all columns of a schema; those that are new are empty."""
        fresh = [field for field in schema if field.name not in self.schema.names]
        if fresh:
            with _explained(self.path):
                self._table.add_columns(fresh)

    def put(self, rows: pa.Table) -> tuple[int, int]:
        """Add documents, or replace those with their ids: all in one version. Gives how many of each."""
        with _explained(self.path):
            self.add_columns(rows.schema)
            rows = conformed(rows, self.schema)
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            done = merge.execute(rows)
        return int(done.num_inserted_rows), int(done.num_updated_rows)

    def put_written(self, written: Sequence[Written]) -> tuple[int, int]:
        """Add documents that lie in files already, or replace those with their ids: all in one version.

        No two of them have the same id. Gives how many were new, and how many replaced.
        """
        with _explained(self.path):
            replaced = commit(self.path / f"{NAME}.lance", written)
            self._table.checkout_latest()
        return sum(one.rows for one in written) - replaced, replaced

    def delete(self, where: str) -> int:
        """Delete what a filter finds; gives how many there were."""
        with _explained(self.path, where):
            number = int(self._table.count_rows(where))
            if number:
                self._table.delete(where)
        return number

    def delete_ids(self, ids: Sequence[str]) -> int:
        """Delete documents by their ids; gives how many there were."""
        listed = [ids[start : start + _LISTED_AT_ONCE] for start in range(0, len(ids), _LISTED_AT_ONCE)]
        return sum(self.delete(_is_one_of("id", some)) for some in listed)

    def set_maker(self, maker: str) -> None:
        """Keep another maker from this version on; documents and vectors stay as they are."""
        with _explained(self.path):
            # What is kept with the table is written once; a column's metadata is part of a version.
            self._table.update_field_metadata({"path": "vector", "metadata": {_MAKER_KEY.decode(): maker}})
            self._table.checkout_latest()

    def compact(self, keep: timedelta) -> None:
        """Join small files, drop deleted documents from them, and remove versions older than `keep`."""
        with _explained(self.path), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*cleanup_older_than=0")  # whoever asks for it knows
            self.seals.clean(lambda: self._table.optimize(cleanup_older_than=keep))


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema, in its order; those that they lack are empty."""
    for field in schema:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def seals_of(path: Path) -> Seals:
    """The checksums of an index's files, whether or not it can be opened."""
    return Seals(path, (f"{NAME}.lance", "search"))


def connect(path: Path) -> Any:
    """The LanceDB database in a folder."""
    lancedb = _lancedb()
    # Its caches are for random access to columns that we keep in memory ourselves: by default they may take gigabytes.
    session = lancedb.Session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)
    return lancedb.connect(str(path), session=session)


def _is_one_of(column: str, values: Sequence[str]) -> str:
    if not values:
        return "false"
    return f"{column} IN ({', '.join(quoted(value) for value in values)})"


def quoted(text: str) -> str:
    """A text as SQL writes it.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _explained(path: Path, where: str | None = None) -> Iterator[None]:
    """Errors of the engine, with what they are about."""
    if where is not None:
        check_filter(where)
    try:
        yield
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, IndexingError):
            raise
        said = _IN_THE_ENGINE.sub("", str(error).split("\n")[0])
        if "no space left" in said.lower():
            raise IndexingError(
                f"{path}: the disk is full ({said}). What was written before is there; when there is room, the same "
                "call goes on"
            ) from error
        if where is not None and any(sign in said.lower() for sign in _OF_A_FILTER):
            # Columns that are ours alone are nobody's to filter by.
            said = re.sub(r"`(text_hash|content_hash|vector)`, ", "", said).replace("Invalid input, ", "")
            raise IndexingError(f"the filter {shown(where)} cannot be used: {said[:500]}") from error
        raise IndexingError(
            f"{path}: the index could not be read or written: {said}. `polyencoders index verify {path}` checks every "
            "file of it"
        ) from error
