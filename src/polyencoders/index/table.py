"""Documents kept: a LanceDB table in which every change is a version, and how writers get out of each other's way.

In a folder they take turns by a lock. In a bucket they do not wait: a version that another's overtook is made again,
from the one that is the latest then. Knows columns, versions and filters; nothing of models, and of vectors only how
long they are.
"""

from __future__ import annotations

import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.errors import IndexingError, MissingExtraError
from polyencoders.index.filters import check_filter, shown
from polyencoders.index.fragments import Written, commit
from polyencoders.index.seals import Seals
from polyencoders.index.storage import TABLE, Folder, Storage

FORMAT = 1
_FORMAT_KEY, _MAKER_KEY = b"polyencoders.format", b"polyencoders.maker"
_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
"""Marks the id, so that of two writers who add the same one at the same time the second notices."""
_LISTED_AT_ONCE = 10_000
_CACHE_BYTES = 64 << 20
_IN_THE_ENGINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")
_OF_A_FILTER = ("schema error", "parse", "sql", "type", "return a boolean", "filter expression")
"""What the engine says of a filter that it cannot use, and of nothing else."""
_OVERTAKEN = ("commit conflict", "concurrent writers", "please retry", "incompatible transaction")
"""What the engine says when another writer's version came first."""
_FILE = rf"{TABLE}\.lance/[\w./-]*\w"
_REMOVED = re.compile(rf"[Nn]ot found: \S*?({_FILE})|({_FILE}) was not found|([Vv]ersion \d+) no longer exists")
_TRIES = 50

T = TypeVar("T")


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        raise MissingExtraError("lancedb", "index") from None
    return lancedb


class Table:
    """A LanceDB table of documents in a place of its own; or one version of it, held fast.

    Columns: `id`, `text`, `text_hash`, `content_hash`, `vector`, and one for each name of the metadata.
    """

    def __init__(self, storage: Storage, table: Any, held: bool = False) -> None:
        self.storage = storage
        self.held = held
        """Whether it is one version, which stays as it is."""
        self.path = storage.place
        self._table = table
        self.seals = seals_of(storage)

    @classmethod
    def create(cls, storage: Storage, dimension: int, maker: str | None) -> Table:
        """A new, empty table, where there is nothing yet."""
        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False, metadata=_KEY if storage.shared else None),
                pa.field("text", pa.string()),
                pa.field("text_hash", pa.string()),
                pa.field("content_hash", pa.string()),
                pa.field("vector", pa.list_(pa.float32(), dimension)),
            ],
            metadata={_FORMAT_KEY: str(FORMAT), _MAKER_KEY: maker or ""},
        )
        with _explained(storage):
            made = cls(storage, connect(storage).create_table(TABLE, schema=schema))
            made.seals.seal(first=True)
        return made

    @classmethod
    def open(cls, storage: Storage, version: int | None = None) -> Table:
        """The table as it is, or one version of it.

        Raises
        ------
        IndexingError
            It cannot be read, or it is of a later format.
        """
        path = storage.place
        with _explained(storage):
            table = connect(storage).open_table(TABLE)
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
        return cls(storage, table, held=version is not None)

    def at(self, version: int) -> Table:
        """One version, held fast: what is changed later does not show."""
        return Table.open(self.storage, version)

    # -- what there is -----------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Number of the version that is looked at."""
        with _explained(self.storage):
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
        """Where the documents lie, in the order of the table."""
        with _explained(self.storage, where):
            query = self._table.search().select(["_rowid"])
            found = (query.where(where) if where is not None else query).to_arrow()
        return np.asarray(found["_rowid"].to_numpy())

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of the documents at these places, in the order given."""
        with _explained(self.storage):
            query = self._table.take_row_ids([int(row) for row in row_ids]).select(list(columns)).with_row_id()
            found = query.to_arrow()
        order = {row: place for place, row in enumerate(found["_rowid"].to_pylist())}
        missing = [row for row in row_ids if int(row) not in order]
        if missing:
            raise IndexingError(f"{self.path}: {len(missing)} documents that were found are not there any more")
        return found.take(pa.array([order[int(row)] for row in row_ids], pa.int64()))

    def find(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Some columns of the documents of which a column has one of the values."""
        find = partial(self._find, column, values, columns)
        return find() if self.held else self._agreed(find)

    def _find(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        found = []
        for start in range(0, max(1, len(values)), _LISTED_AT_ONCE):
            where = _is_one_of(column, values[start : start + _LISTED_AT_ONCE])
            with _explained(self.storage):
                found.append(self._table.search().where(where).select(list(columns)).to_arrow())
        return pa.concat_tables(found)

    def batches(self, columns: Sequence[str], rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """All documents, a batch at a time, with their places in `_rowid`."""
        with _explained(self.storage):
            query = self._table.search().select(list(columns)).with_row_id(True)
            yield from query.to_batches(batch_size=rows)

    def with_latest(self, do: Callable[[Table], T]) -> T:
        """Do something with the latest version, held fast; with a later one, where it is removed meanwhile."""
        return self._agreed(lambda: do(self.at(self.version)))

    # -- changing it -------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the latest version; what was changed is sealed at the end.

        Of a writer that is killed nobody sees what it had begun.
        """
        with self.storage.turn():
            self.refresh()
            yield
            try:
                with self._sealing():
                    self.seals.seal()
            except OSError:
                pass  # a full disk: what was changed is there, and the next writer seals it

    def add_columns(self, schema: pa.Schema) -> None:
        """Have all columns of a schema; those that are new are empty."""
        fresh = [field for field in schema if field.name not in self.schema.names]
        if fresh:
            with _explained(self.storage):
                self._table.add_columns(fresh)

    def put(self, rows: pa.Table) -> tuple[int, int]:
        """Add documents, or replace those with their ids: all in one version. Gives how many of each."""
        return self._agreed(lambda: self._put(rows))

    def _put(self, rows: pa.Table) -> tuple[int, int]:
        with _explained(self.storage):
            self.add_columns(rows.schema)
            rows = conformed(rows, self.schema)
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            done = merge.execute(rows)
        return int(done.num_inserted_rows), int(done.num_updated_rows)

    def put_written(self, written: Sequence[Written]) -> tuple[int, int]:
        """Add documents that lie in files already, or replace those with their ids: all in one version.

        No two of them have the same id. Gives how many were new, and how many replaced.
        """
        assert isinstance(self.storage, Folder)
        with _explained(self.storage):
            replaced = commit(self.storage.place / f"{TABLE}.lance", written)
            self._table.checkout_latest()
        return sum(one.rows for one in written) - replaced, replaced

    def delete(self, where: str) -> int:
        """Delete what a filter finds; gives how many there were."""
        return self._agreed(lambda: self._delete(where))

    def _delete(self, where: str) -> int:
        with _explained(self.storage, where):
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
        self._agreed(lambda: self._set_maker(maker))

    def _set_maker(self, maker: str) -> None:
        with _explained(self.storage):
            # What is kept with the table is written once; a column's metadata is part of a version.
            self._table.update_field_metadata({"path": "vector", "metadata": {_MAKER_KEY.decode(): maker}})
            self._table.checkout_latest()

    def compact(self, keep: timedelta) -> None:
        """Join small files, drop deleted documents from them, and remove versions older than `keep`."""
        with _explained(self.storage), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*cleanup_older_than=0")  # whoever asks for it knows
            self.clean(lambda: self._agreed(lambda: self._optimize(keep)))

    def clean(self, remove: Callable[[], object]) -> None:
        """Run what removes files of the index, then forget their checksums."""
        with self._sealing():
            self.seals.clean(remove)

    @contextmanager
    def _sealing(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise IndexingError(f"{self.path}: {error}; `polyencoders index verify` says more") from None

    def _optimize(self, keep: timedelta) -> None:
        with _explained(self.storage):
            self._table.optimize(cleanup_older_than=keep)

    def _agreed(self, change: Callable[[], T]) -> T:
        """Do something with the latest version, again and again until no other writer's came first."""
        for attempt in range(_TRIES):
            version = self.version
            try:
                return change()
            except _OvertakenError:
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
                self.refresh()
            except _RemovedError:
                self.refresh()
                if self.version == version:
                    raise  # nobody has removed it: it is lost
        raise IndexingError(
            f"{self.path}: other writers change it all the time, and {_TRIES} attempts came too late. What was written "
            "before is there; the same call goes on. Fewer writers at once, or larger chunks, get on faster"
        )


class _OvertakenError(IndexingError):
    """Another writer's version came first."""


class _RemovedError(IndexingError):
    """A file of the version that is looked at is gone: by another writer's compaction, or lost."""


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema, in its order; those that they lack are empty."""
    for field in schema:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def seals_of(storage: Storage) -> Seals:
    """The checksums of an index's files, whether or not it can be opened."""
    return Seals(storage, (f"{TABLE}.lance", "search"))


def connect(place: Storage | Path) -> Any:
    """The LanceDB database in a place."""
    lancedb = _lancedb()
    # Its caches are for random access to columns that we keep in memory ourselves: by default they may take gigabytes.
    session = lancedb.Session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)
    where, options = (place if isinstance(place, Storage) else Folder(place)).engine()
    return lancedb.connect(where, session=session, storage_options=options)


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
def _explained(storage: Storage, where: str | None = None) -> Iterator[None]:
    """Errors of the engine, with what they are about."""
    if where is not None:
        check_filter(where)
    path = storage.place
    try:
        yield
    except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, IndexingError):
            raise
        if storage.shared and any(sign in str(error).lower() for sign in _OVERTAKEN):
            raise _OvertakenError(f"{path}: another writer's change came first; the same call goes on") from None
        said = _IN_THE_ENGINE.sub("", str(error).split("\n")[0])
        # What a server answered may quote the request, and so what it was signed with: it is nobody's cause.
        cause = None if storage.shared else error
        if explained := storage.explained(str(error) if storage.shared else said):
            raise explained from cause
        if where is not None and any(sign in said.lower() for sign in _OF_A_FILTER):
            # Columns that are ours alone are nobody's to filter by.
            said = re.sub(r"`(text_hash|content_hash|vector)`, ", "", said).replace("Invalid input, ", "")
            raise IndexingError(f"the filter {shown(where)} cannot be used: {said[:500]}") from cause
        if removed := _REMOVED.search(said):
            raise _RemovedError(
                f"{path}: {removed[removed.lastindex or 0]} is not there. If another process has just removed old "
                f"versions, refresh() looks at the latest; if not, `polyencoders index verify {path}` says what is "
                "missing"
            ) from cause
        raise IndexingError(
            f"{path}: the index could not be read or written: {said}. `polyencoders index verify {path}` checks every "
            "file of it"
        ) from cause
