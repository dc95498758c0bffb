"""Documents in a PostgreSQL table, their vectors in a column of pgvector's.

Knows SQL and nothing of scores. A search is one statement, in a transaction that can only read and is always rolled
back.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import MissingExtraError
from polyencoders.index.stores.protocol import Neighbours, StoredDocument, StoreError

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

CONNECT_SECONDS = 10
MOST_EF_SEARCH = 1000
"""The largest `hnsw.ef_search` that pgvector takes."""


class PgVectorStore:
    """A table of documents with a `vector` column, to be searched with `search_store`.

    Parameters
    ----------
    connection
        An open psycopg connection, which stays yours to close; or a connection string, which is opened here.
    table
        Its name; `schema.table` where it is not on the search path.
    id_column
        Of any type, unique; ids are its text.
    vector_column
        Of the type `vector`. Documents in which it is null are none.
    text_column
        What a hit shows.
    metadata_column
        A `jsonb` object that is a document's metadata. Without one, the metadata are all other columns.
    exact
        True has every search look at every row that meets its condition, so that its results can be certified. False
        lets PostgreSQL use an HNSW or IVFFlat index for inner products (`vector_ip_ops`), which may miss some.
    longest
        No vector is longer than this; 1 if they are normalised. Asked of the table once, unless given, which reads all
        of it.
    timeout
        Seconds that a statement may take.

    Raises
    ------
    StoreError
        The server cannot be reached, or there is no such table, column or extension.
    MissingExtraError
        psycopg is not installed.

    Examples
    --------
    >>> from polyencoders.index.stores import PgVectorStore, search_store
    >>> store = PgVectorStore("dbname=shop", table="answers", vector_column="embedding")  # doctest: +SKIP
    >>> answer, *_ = search_store(store, query_codes, where="language = 'en'")  # doctest: +SKIP
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any] | str,
        table: str = "documents",
        id_column: str = "id",
        vector_column: str = "vector",
        text_column: str = "text",
        metadata_column: str | None = None,
        exact: bool = True,
        longest: float | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.exact = exact
        self._name = table
        self._timeout = _checked_timeout(timeout)
        self._lock = threading.RLock()
        self._connection, self._own = _connected(connection)
        try:
            self._columns, self.dimension = self._inspect(id_column, vector_column, text_column, metadata_column)
            self._id, self._vector, self._text = id_column, vector_column, text_column
            self._metadata = metadata_column
            self.longest = self._measure() if longest is None else float(longest)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls, connection: psycopg.Connection[Any] | str, table: str, dimension: int, **settings: Any
    ) -> PgVectorStore:
        """A new, empty table with the columns `id`, `text`, `vector` and `metadata`; `settings` as above.

        Raises
        ------
        StoreError
            The table is there already, or may not be created.
        """
        from_here, own = _connected(connection)
        extension = _sql("CREATE EXTENSION IF NOT EXISTS vector")
        columns = _sql(
            "CREATE TABLE {} (id text PRIMARY KEY, text text NOT NULL, vector vector({}) NOT NULL, "
            "metadata jsonb NOT NULL DEFAULT '{{}}')"
        ).format(_table(table), _literal(int(dimension)))
        try:
            with _told(f"creating the table {table!r}"), from_here.transaction():
                from_here.execute(extension)
                from_here.execute(columns, ())
            return cls(connection if own else from_here, table, metadata_column="metadata", **settings)
        finally:
            if own:
                from_here.close()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add documents to a table that `create` made, all of them or none.

        Parameters
        ----------
        rows
            Each with `id`, `text`, `vector`, and `metadata` if it has any: what JSON can hold.

        Raises
        ------
        StoreError
            An id that is there already, a vector of other dimensions, or with numbers that are not finite.
        """
        added, longest = [], self.longest
        for row in rows:
            vector = np.asarray(row["vector"], dtype=np.float32)
            longest = max(longest, float(np.linalg.norm(vector.astype(np.float64))))
            metadata = json.dumps(row.get("metadata") or {})
            added.append((str(row["id"]), row["text"], _written(vector), metadata))
        statement = _sql("INSERT INTO {} (id, text, vector, metadata) VALUES (%s, %s, %s::vector, %s::jsonb)")
        with self._lock, _told(f"adding to the table {self._name!r}"):
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.executemany(statement.format(_table(self._name)), added)
            self.longest = longest

    def search(self, vectors: NDArray[np.float32], k: int, where: str | None = None) -> list[Neighbours]:
        """The k documents with the largest inner products, for each of `vectors` `(q, d)`.

        Parameters
        ----------
        vectors
            `(q, d)`.
        k
            How many.
        where
            An SQL condition on the columns of the table, as in `language = 'en' AND year > 2000`. It becomes part of
            the statement as it stands: it cannot write, but it can read whatever the connection's user may read, so
            never let those write it whom you would not let query the database.

        Raises
        ------
        StoreError
            The server cannot be reached, takes too long, or refuses the condition.
        """
        # An index on the vectors answers no order but by the bare product: with 0 added, every row is looked at. That
        # leaves the planner the other indexes, for the condition.
        order = "(t.{vector} <#> asked.code)" + (" + 0" if self.exact else "")
        statement = _sql(
            # Materialised: otherwise the text of a code is read as a vector again for every row.
            "WITH asked AS MATERIALIZED (SELECT code::vector AS code, number "
            "FROM unnest(%s::text[]) WITH ORDINALITY AS given(code, number)) "
            "SELECT asked.number, found.id, found.product FROM asked "
            "CROSS JOIN LATERAL (SELECT t.{id}::text AS id, -(t.{vector} <#> asked.code) AS product "
            "FROM {table} AS t WHERE t.{vector} IS NOT NULL AND (\n{where}\n) "
            "ORDER BY " + order + " LIMIT %s) AS found ORDER BY asked.number, found.product DESC"
        ).format(
            id=_identifier(self._id),
            vector=_identifier(self._vector),
            table=_table(self._name),
            where=_verbatim("true" if where is None else where),
        )
        with self._reading(f"searching the table {self._name!r}") as cursor:
            if not self.exact:
                _widen_indexes(cursor, k)
            rows = cursor.execute(statement, ([_written(vector) for vector in vectors], k)).fetchall()
        ids: list[list[str]] = [[] for _ in vectors]
        products: list[list[float]] = [[] for _ in vectors]
        for number, id, product in rows:
            ids[number - 1].append(id)
            products[number - 1].append(product)
        return [Neighbours(i, np.array(p, dtype=np.float64)) for i, p in zip(ids, products, strict=True)]

    def fetch(self, ids: Sequence[str]) -> list[StoredDocument]:
        """The documents with these ids.

        Raises
        ------
        StoreError
            The server cannot be reached, or several rows have one of the ids.
        """
        others = [name for name in self._columns if name not in (self._id, self._vector, self._text)]
        metadata = others if self._metadata is None else [self._metadata]
        statement = _sql(
            "SELECT {id}::text, {vector}::real[], {text}::text{others} FROM {table} WHERE {id} = ANY("
        ).format(
            id=_identifier(self._id),
            vector=_identifier(self._vector),
            text=_identifier(self._text),
            table=_table(self._name),
            others=_sql("").join([_sql(", {}").format(_identifier(name)) for name in metadata]),
        ) + _sql("%s::text[]::{}[])").format(_verbatim(self._columns[self._id]))
        with self._reading(f"reading the table {self._name!r}") as cursor:
            rows = cursor.execute(statement, (list(ids),)).fetchall()
        documents = []
        for id, vector, text, *values in rows:
            record = (values[0] or {}) if self._metadata is not None else dict(zip(metadata, values, strict=True))
            documents.append(StoredDocument(id, np.array(vector, dtype=np.float32), text or "", record))
        if len({document.id for document in documents}) < len(documents):
            raise StoreError(f"table {self._name!r}: the ids in the column {self._id!r} must be unique, and are not")
        return documents

    def __len__(self) -> int:
        """How many rows have a vector."""
        return int(self._aggregate("count({vector})"))

    def __repr__(self) -> str:
        return f"PgVectorStore({self._name!r}, {self.dimension} dimensions, {'exact' if self.exact else 'approximate'})"

    def close(self) -> None:
        """Close the connection, if it was opened here."""
        if self._own:
            self._connection.close()

    def __enter__(self) -> PgVectorStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self, doing: str) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """A transaction that cannot write and leaves nothing behind, not even in a transaction that you have begun."""
        from psycopg.rows import tuple_row

        with (
            self._lock,
            _told(doing),
            self._connection.transaction(force_rollback=True),
            self._connection.cursor(row_factory=tuple_row) as cursor,
        ):
            cursor.execute(
                "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true)",
                (str(math.ceil(1000 * self._timeout)),),
            )
            yield cursor

    def _aggregate(self, expression: str) -> Any:
        statement = _sql("SELECT " + expression + " FROM {table}").format(
            vector=_identifier(self._vector), table=_table(self._name)
        )
        with self._reading(f"reading the table {self._name!r}") as cursor:
            row = cursor.execute(statement, ()).fetchone()
        assert row is not None
        return row[0]

    def _measure(self) -> float:
        return float(self._aggregate("coalesce(max(vector_norm({vector})), 0)"))

    def _inspect(self, id: str, vector: str, text: str, metadata: str | None) -> tuple[dict[str, str], int]:
        """The types of the columns by name, and the dimensions of the vectors."""
        name = _table(self._name).as_string(self._connection).replace("%%", "%")  # not part of a statement
        with self._reading(f"looking up the table {self._name!r}") as cursor:
            rows = cursor.execute(
                "SELECT attname, format_type(atttypid, -1), typname, atttypmod FROM pg_attribute "
                "JOIN pg_type ON pg_type.oid = atttypid "
                "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                (name,),
            ).fetchall()
            row = cursor.execute("SELECT to_regtype('vector') IS NOT NULL").fetchone()
        if row is None or not row[0]:
            raise StoreError("the database has no pgvector: CREATE EXTENSION vector, as a user who may")
        columns = {column: type for column, type, *_ in rows}
        if not columns:
            raise StoreError(f"there is no table {self._name!r} that this user can see")
        for column in (id, vector, text, *([] if metadata is None else [metadata])):
            if column not in columns:
                raise StoreError(f"table {self._name!r}: no column {column!r} among {', '.join(columns)}")
        type, dimension = next((type, modifier) for column, _, type, modifier in rows if column == vector)
        if type != "vector":
            raise StoreError(f"table {self._name!r}: the column {vector!r} must be of the type vector, and is {type}")
        if dimension < 1:
            raise StoreError(
                f"table {self._name!r}: the column {vector!r} does not say how many dimensions its vectors have; "
                "it should be vector(d)"
            )
        return columns, dimension


def _connected(connection: psycopg.Connection[Any] | str) -> tuple[psycopg.Connection[Any], bool]:
    """An open connection, and whether it was opened here."""
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("psycopg", "pgvector") from error
    if not isinstance(connection, str):
        return connection, False
    with _told("connecting"):
        return psycopg.connect(connection, connect_timeout=CONNECT_SECONDS), True


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Errors of the server and of the connection, as one line that says what was being done."""
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise StoreError(f"PostgreSQL, {doing}: took longer than the timeout of this store") from error
    except psycopg.Error as error:
        said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"PostgreSQL, {doing}: {said}") from error


def _widen_indexes(cursor: psycopg.Cursor[Any], k: int) -> None:
    """Have an index go on until it has found k: of itself HNSW stops at 40."""
    cursor.execute(
        "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'strict_order', true), "
        "set_config('ivfflat.iterative_scan', 'relaxed_order', true)",
        (str(min(max(k, 40), MOST_EF_SEARCH)),),
    )


def _checked_timeout(timeout: float) -> float:
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout}")
    return timeout


def _written(vector: NDArray[np.float32]) -> str:
    """A vector as pgvector reads it, to the last bit."""
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def _table(name: str) -> sql.Identifier:
    return _identifier(*name.split("."))


def _identifier(*parts: str) -> sql.Identifier:
    """A quoted name, in a statement that is given its parameters."""
    from psycopg import sql

    return sql.Identifier(*(_without_places(part) for part in parts))


def _verbatim(text: str) -> sql.SQL:
    """SQL as it stands, in a statement that is given its parameters."""
    return _sql(_without_places(text))


def _without_places(text: str) -> str:
    """Per cent signs, which psycopg would take for places to fill in, so that it does not."""
    return text.replace("%", "%%")


def _literal(value: int) -> sql.Literal:
    from psycopg import sql

    return sql.Literal(value)


def _sql(text: str) -> sql.SQL:
    from psycopg import sql

    return sql.SQL(text)
