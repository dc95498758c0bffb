"""The documents: a LanceDB table in which every change is a version.

In a folder, writers take turns by a lock. In object storage, a version that another writer's overtook is made again.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.errors import IndexingError
from polyencoders.index.checksums import Checksums
from polyencoders.index.documents import OWN_COLUMNS
from polyencoders.index.engine import connect
from polyencoders.index.filters import check_filter, shown
from polyencoders.index.storage import TABLE, OvertakenError, Storage

FORMAT = 1
LAYOUTS = "search"  # The folder of an index that its layouts are in
_FORMAT_KEY, _MAKER_KEY, _LANGUAGE_KEY = b"polyencoders.format", b"polyencoders.maker", b"polyencoders.words"
_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
"""Marks the id as the key: of two writers that add the same id at the same time the second is told."""
_LISTED_AT_ONCE = 10_000
_IN_THE_ENGINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")
_OF_A_FILTER = ("schema error", "parse", "sql", "type", "return a boolean", "filter expression")
"""LanceDB says one of these about a filter that it cannot use, and about nothing else."""
_OVERTAKEN = ("commit conflict", "concurrent writers", "please retry", "incompatible transaction")
"""LanceDB says one of these when another writer's version came first."""
_FILE = rf"{TABLE}\.lance/[\w./-]*\w"
_REMOVED = re.compile(rf"[Nn]ot found: .*?({_FILE})|({_FILE}) was not found|([Vv]ersion \d+) no longer exists")
_TRIES = 50

T = TypeVar("T")


class Table:
    """A LanceDB table of documents, or one version of it, with `OWN_COLUMNS` and one for each name of the metadata."""

    def __init__(self, storage: Storage, table: Any, held: bool = False) -> None:
        self.storage = storage
        self.held = held  # Whether it is one version, which stays as it is
        self.path = storage.place
        self._table = table
        self.checksums = checksums_of(storage)

    @classmethod
    def create(cls, storage: Storage, dimension: int, maker: str | None, language: str = "none") -> Table:
        """A new, empty table in empty storage; `language` is that of its words."""
        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False, metadata=_KEY if storage.shared else None),
                pa.field("text", pa.string()),
                pa.field("text_hash", pa.string()),
                pa.field("content_hash", pa.string()),
                pa.field("vector", pa.list_(pa.float32(), dimension)),
            ],
            metadata={_FORMAT_KEY: str(FORMAT), _MAKER_KEY: maker or "", _LANGUAGE_KEY: language},
        )
        with _explained(storage):
            made = cls(storage, connect(*storage.engine()).create_table(TABLE, schema=schema))
            made.checksums.take(first=True)
        return made

    @classmethod
    def open(cls, storage: Storage, version: int | None = None) -> Table:
        """The latest version, or one held fast; IndexingError if it cannot be read or has a later format."""
        path = storage.place
        with _explained(storage):
            table = connect(*storage.engine()).open_table(TABLE)
            if version is not None:
                table.checkout(version)
            written = (table.schema.metadata or {}).get(_FORMAT_KEY, b"").decode()
        if not written:
            raise IndexingError(
                f"{path}: the index does not say its format: it is damaged, or was not made by polyencoders. "
                f"`polyencoders index verify {path}` checks every file of it"
            )
        if written != str(FORMAT):
            raise IndexingError(f"{path} is an index of format {written}; this version of polyencoders reads {FORMAT}")
        return cls(storage, table, held=version is not None)

    def at(self, version: int) -> Table:
        """One version, held fast: later changes do not show."""
        return Table.open(self.storage, version)

    @property
    def version(self) -> int:
        """The number of the version that is looked at."""
        with _explained(self.storage):
            return int(self._table.version)

    @property
    def schema(self) -> pa.Schema:
        return self._table.schema

    @property
    def maker(self) -> str | None:
        """What was kept of the model: with the table, or with the vectors when the query model was changed later."""
        later = (self.schema.field("vector").metadata or {}).get(_MAKER_KEY)
        return (self.schema.metadata[_MAKER_KEY] if later is None else later).decode() or None

    @property
    def language(self) -> str:
        """How the words of documents and queries are told apart; see `encoders.words.LANGUAGES`."""
        return str((self.schema.metadata.get(_LANGUAGE_KEY) or b"none").decode())

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self.schema.field("vector").type.list_size)

    def refresh(self) -> None:
        """Look at the latest version."""
        with _explained(self.storage):
            self._table.checkout_latest()

    def __len__(self) -> int:
        with _explained(self.storage):
            return int(self._table.count_rows())

    def versions(self) -> list[dict[str, Any]]:
        """Number and time of each version that is kept."""
        with _explained(self.storage):
            return list(self._table.list_versions())

    def row_ids(self, where: str | None = None) -> NDArray[np.uint64]:
        """The row ids of the documents, or of those that a filter finds, in the order of the table."""
        with _explained(self.storage, where):
            query = self._table.search().select(["_rowid"])
            found = (query.where(where) if where is not None else query).to_arrow()
        return np.asarray(found["_rowid"].to_numpy())

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of the documents with these row ids, in the order given."""
        with _explained(self.storage):
            query = self._table.take_row_ids([int(row) for row in row_ids]).select(list(columns)).with_row_id()
            found = query.to_arrow()
        order = {row: place for place, row in enumerate(found["_rowid"].to_pylist())}
        missing = [row for row in row_ids if int(row) not in order]
        if missing:
            raise IndexingError(f"{self.path}: {len(missing)} documents that were found are not there any more")
        return found.take(pa.array([order[int(row)] for row in row_ids], pa.int64()))

    def find(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Some columns of the documents in which `column` has one of the values."""

        def found() -> pa.Table:
            with _explained(self.storage):
                queries = [self._table.search().where(where) for where in are_among(column, values) or ["false"]]
                return pa.concat_tables([query.select(list(columns)).to_arrow() for query in queries])

        return found() if self.held else self._agreed(found)

    def batches(self, columns: Sequence[str], rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """All documents, a batch at a time, with their row ids in `_rowid`."""
        with _explained(self.storage):
            query = self._table.search().select(list(columns)).with_row_id(True)
            yield from query.to_batches(batch_size=rows)

    def with_latest(self, do: Callable[[Table], T]) -> T:
        """Do something with the latest version, held fast; again with a later one if it is removed meanwhile."""
        return self._agreed(lambda: do(self.at(self.version)))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the latest version, and take the checksums of new files. What a killed writer began is never seen."""
        with self.storage.lock():
            self.refresh()
            yield
            try:
                with self._checksums_readable():
                    self.checksums.take()
            except OSError:
                pass  # a full disk: the change is there, and the next writer takes its checksums

    def add_columns(self, schema: pa.Schema) -> None:
        """Have all columns of a schema; IndexingError if another process has made one of another type."""
        for field in schema:
            if field.name in OWN_COLUMNS or field.name not in self.schema.names:
                continue
            there = self.schema.field(field.name)
            if not there.equals(field, check_metadata=True):
                raise IndexingError(
                    f"{self.path}: another process has added metadata {field.name!r} of the type {there.type} "
                    f"meanwhile, and here it is {field.type}; the same call, made again, names the document"
                )
        fresh = [field for field in schema if field.name not in self.schema.names]
        if fresh:
            with _explained(self.storage):
                self._table.add_columns(fresh)

    def put(self, rows: pa.Table) -> tuple[int, int]:
        """Add documents, or replace those with their ids, in one version. Returns how many of each."""

        def merged() -> tuple[int, int]:
            self.add_columns(rows.schema)
            with _explained(self.storage):
                merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                done = merge.execute(conformed(rows, self.schema))
            return int(done.num_inserted_rows), int(done.num_updated_rows)

        return self._agreed(merged)

    def commit(self, change: Callable[[], T]) -> T:
        """Make a version outside of LanceDB, and look at it."""
        with _explained(self.storage):
            done = change()
            self._table.checkout_latest()
        return done

    def delete(self, where: str) -> int:
        """Delete what a filter finds. Returns how many documents that were."""

        def deleted() -> int:
            with _explained(self.storage, where):
                number = int(self._table.count_rows(where))
                if number:
                    self._table.delete(where)
            return number

        return self._agreed(deleted)

    def set_maker(self, maker: str) -> None:
        """Keep another maker from this version on; documents and vectors stay as they are."""
        # The table's own metadata is written once; a column's is part of a version.
        change = {"path": "vector", "metadata": {_MAKER_KEY.decode(): maker}}
        self._agreed(lambda: self.commit(lambda: self._table.update_field_metadata(change)))

    def compact(self, keep: timedelta) -> None:
        """Join small files, drop deleted documents from them, and remove versions older than `keep`."""

        def optimize() -> None:
            with _explained(self.storage):
                self._table.optimize(cleanup_older_than=keep)

        with _explained(self.storage), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*cleanup_older_than=0")  # who asks for it knows
            self.clean(lambda: self._agreed(optimize))

    def clean(self, remove: Callable[[], object]) -> None:
        """Run what removes files of the index, then forget their checksums."""
        with self._checksums_readable():
            self.checksums.clean(remove)

    @contextmanager
    def _checksums_readable(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise IndexingError(f"{self.path}: {error}; `polyencoders index verify` says more") from None

    def _agreed(self, change: Callable[[], T]) -> T:
        """Do something with the latest version, again and again until no other writer's came first."""
        from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        def attempt() -> T:
            version = self.version
            try:
                return change()
            except _RemovedError as error:
                self.refresh()
                if self.version == version:
                    raise  # no later version: the file is lost
                raise OvertakenError(str(error)) from None

        retrying = Retrying(
            retry=retry_if_exception_type(OvertakenError),
            wait=wait_random_exponential(0.05, max=2),
            stop=stop_after_attempt(_TRIES),
            before=lambda state: self.refresh() if state.attempt_number > 1 else None,
        )
        try:
            return retrying(attempt)
        except RetryError:
            raise IndexingError(
                f"{self.path}: other writers change it all the time, and {_TRIES} attempts came too late. What was "
                "written before is there; the same call goes on. Fewer writers at once, or larger chunks, get on faster"
            ) from None


class _RemovedError(IndexingError):
    """A file of the version that is looked at is gone: removed by another writer's compaction, or lost."""


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema, in its order; those that they lack are empty."""
    for field in schema:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def vectors_in(rows: pa.Table | pa.RecordBatch) -> NDArray[np.float32]:
    """The column `vector` of some rows as `(n, d)`."""
    column = rows["vector"]
    flat = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).flatten()
    d = rows.schema.field("vector").type.list_size
    return np.ascontiguousarray(flat.to_numpy(zero_copy_only=False)).reshape(len(rows), d)


def checksums_of(storage: Storage) -> Checksums:
    """The checksums of an index's files, whether or not it can be opened."""
    return Checksums(storage, (f"{TABLE}.lance", LAYOUTS))


def are_among(column: str, values: Sequence[str]) -> list[str]:
    """SQL conditions that together find the rows with one of the values.

    >>> are_among("id", ["it's", "b"])
    ["id IN ('it''s', 'b')"]
    """
    quoted = ["'" + value.replace("'", "''") + "'" for value in values]
    starts = range(0, len(quoted), _LISTED_AT_ONCE)
    return [f"{column} IN ({', '.join(quoted[start : start + _LISTED_AT_ONCE])})" for start in starts]


@contextmanager
def _explained(storage: Storage, where: str | None = None) -> Iterator[None]:
    """Turn an error of LanceDB into one of ours that says what it is about."""
    if where is not None:
        check_filter(where)
    path = storage.place
    try:
        yield
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, IndexingError):
            raise
        if storage.shared and any(sign in str(error).lower() for sign in _OVERTAKEN):
            raise OvertakenError(f"{path}: another writer's change came first; the same call goes on") from None
        said = _IN_THE_ENGINE.sub("", str(error).split("\n")[0])
        # A server's answer may quote the signed request: in object storage it is not kept as the cause.
        cause = None if storage.shared else error
        if explained := storage.explained(str(error) if storage.shared else said):
            raise explained from cause
        # First, and without the filter: the path, or what is filtered by, may hold the words of the other.
        if removed := _REMOVED.search(said.replace(where, "") if where is not None else said):
            raise _RemovedError(
                f"{path}: {removed[removed.lastindex or 0]} is not there. If another process has just removed old "
                f"versions, refresh() looks at the latest; if not, `polyencoders index verify {path}` says what is "
                "missing"
            ) from cause
        if where is not None and any(sign in said.replace(str(path), "").lower() for sign in _OF_A_FILTER):
            # Nobody filters by the columns that are ours alone.
            said = re.sub(r"`(text_hash|content_hash|vector)`, ", "", said).replace("Invalid input, ", "")
            raise IndexingError(f"the filter {shown(where)} cannot be used: {said[:500]}") from cause
        raise IndexingError(
            f"{path}: the index could not be read or written: {said}. `polyencoders index verify {path}` checks every "
            "file of it"
        ) from cause
