"""Documents in a PostgreSQL table, with vectors in a column of pgvector's; searched by transactions that only read."""

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
from polyencoders.index.stores.protocol import ClientStore, Neighbours, StoredDocument, StoreError, checked_timeout

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

CONNECT_SECONDS = 10
MOST_EF_SEARCH = 1000  # The largest `hnsw.ef_search` that pgvector takes


class PgVectorStore(ClientStore):
    """A table of documents with a `vector` column, to be searched with `search_store`.

    Parameters
    ----------
    connection
        An open psycopg connection, which is left open; or a connection string, which is opened here.
    table
        Its name; `schema.table` where it is not on the search path.
    id_column, text_column
        A unique column of any type, whose text is the id; and the column that a hit shows.
    vector_column
        A column of the type `vector`. Rows where it is null are no documents.
    metadata_column
        A `jsonb` object that is a document's metadata. Without one, the metadata are all other columns.
    exact
        Whether every search looks at every row, so that it can be certified. False lets PostgreSQL use an HNSW or
        IVFFlat index for inner products (`vector_ip_ops`), which may miss some.
    longest
        No vector has a larger norm; 1 if they are normalised. By default asked of the table, which reads all of it.
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
        self._timeout = checked_timeout(timeout)
        self._lock = threading.RLock()
        self._client, self._own = _connected(connection)
        try:
            self._columns, self.dimension = self._inspect(id_column, vector_column, text_column, metadata_column)
            self._id, self._vector, self._text = id_column, vector_column, text_column
            self._metadata = metadata_column
            measured = "coalesce(max(vector_norm({vector})), 0)"
            self.longest = float(self._aggregate(measured) if longest is None else longest)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls, connection: psycopg.Connection[Any] | str, table: str, dimension: int, **settings: Any
    ) -> PgVectorStore:
        """Make a new, empty table with the columns `id`, `text`, `vector` and `metadata`.

        `settings` are those of the class. Raises StoreError if the table exists, or may not be created.
        """
        opened, own = _connected(connection)
        columns = _sql(
            "CREATE TABLE {} (id text PRIMARY KEY, text text NOT NULL, vector vector({}) NOT NULL, "
            "metadata jsonb NOT NULL DEFAULT '{{}}')"
        ).format(_table(table), _sql(str(int(dimension))))
        try:
            with _explained(f"creating the table {table!r}"), opened.transaction():
                opened.execute(_sql("CREATE EXTENSION IF NOT EXISTS vector"))
                opened.execute(columns, ())
            return cls(connection if own else opened, table, metadata_column="metadata", **settings)
        finally:
            if own:
                opened.close()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add documents to a table that `create` made, all of them or none.

        Each row has `id`, `text`, `vector`, and `metadata` if there is any: what JSON can hold. Raises StoreError for
        an id that is there already, and for a vector of other dimensions or with numbers that are not finite.
        """
        documents, longest = self._to_add(rows)
        added = [(one.id, one.text, _written(one.vector), json.dumps(one.metadata)) for one in documents]
        insert = "INSERT INTO {table} (id, text, vector, metadata) VALUES (%s, %s, %s::vector, %s::jsonb)"
        with self._lock, _explained(f"adding to the table {self._name!r}"):
            with self._client.transaction(), self._client.cursor() as cursor:
                cursor.executemany(self._statement(insert), added)
            self.longest = longest

    def search(self, vectors: NDArray[np.float32], k: int, where: str | None = None) -> list[Neighbours]:
        """See `DocumentStore`; `where` is an SQL condition, as in `language = 'en' AND year > 2000`.

        It becomes part of the statement as it stands. It cannot write, but it can read what the connection's user may
        read, so take it only from those who may query the database. Raises StoreError if the server cannot be reached,
        takes too long, or refuses the condition.
        """
        # An index on the vectors serves no order but that by the bare product: with 0 added, every row is looked at.
        # The planner still has the other indexes, for the condition.
        order = "(t.{vector} <#> asked.code)" + (" + 0" if self.exact else "")
        statement = self._statement(
            # Materialised: otherwise the text of a code is parsed as a vector again for every row.
            "WITH asked AS MATERIALIZED (SELECT code::vector AS code, number "
            "FROM unnest(%s::text[]) WITH ORDINALITY AS given(code, number)) "
            "SELECT asked.number, found.id, found.product FROM asked "
            "CROSS JOIN LATERAL (SELECT t.{id}::text AS id, -(t.{vector} <#> asked.code) AS product "
            "FROM {table} AS t WHERE t.{vector} IS NOT NULL AND (\n{where}\n) "
            "ORDER BY " + order + " LIMIT %s) AS found ORDER BY asked.number, found.product DESC",
            where=_verbatim("true" if where is None else where),
        )
        with self._reading("searching") as cursor:
            if not self.exact:  # an index goes on until it has found k: by itself HNSW stops at 40
                cursor.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true), "
                    "set_config('hnsw.iterative_scan', 'strict_order', true), "
                    "set_config('ivfflat.iterative_scan', 'relaxed_order', true)",
                    (str(min(max(k, 40), MOST_EF_SEARCH)),),
                )
            rows = cursor.execute(statement, ([_written(vector) for vector in vectors], k)).fetchall()
        ids: list[list[str]] = [[] for _ in vectors]
        products: list[list[float]] = [[] for _ in vectors]
        for number, id, product in rows:
            ids[number - 1].append(id)
            products[number - 1].append(product)
        return [Neighbours(i, np.array(p, dtype=np.float64)) for i, p in zip(ids, products, strict=True)]

    def fetch(self, ids: Sequence[str]) -> list[StoredDocument]:
        """See `DocumentStore`. Raises StoreError if the server cannot be reached, or several rows have the same id."""
        others = [name for name in self._columns if name not in (self._id, self._vector, self._text)]
        metadata = others if self._metadata is None else [self._metadata]
        statement = self._statement(
            "SELECT {id}::text, {vector}::real[], {text}::text{others} FROM {table} "
            "WHERE {id} = ANY(%s::text[]::{type}[])",
            others=_sql("").join([_sql(", {}").format(_identifier(name)) for name in metadata]),
            type=_verbatim(self._columns[self._id]),
        )
        with self._reading("reading") as cursor:
            rows = cursor.execute(statement, (list(ids),)).fetchall()
        documents = []
        for id, vector, text, *values in rows:
            record = (values[0] or {}) if self._metadata is not None else dict(zip(metadata, values, strict=True))
            documents.append(StoredDocument(id, np.array(vector, dtype=np.float32), text or "", record))
        if len({document.id for document in documents}) < len(documents):
            raise StoreError(f"table {self._name!r}: the ids in the column {self._id!r} must be unique, and are not")
        return documents

    def __len__(self) -> int:
        return int(self._aggregate("count({vector})"))

    def _statement(self, template: str, **others: sql.Composable) -> sql.Composed:
        """A statement with the names of the table and of its columns in their places."""
        columns = {"id": self._id, "vector": self._vector, "text": self._text}
        named = {place: _identifier(name) for place, name in columns.items()}
        return _sql(template).format(table=_table(self._name), **named, **others)

    @contextmanager
    def _reading(self, doing: str) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """A transaction that cannot write and leaves nothing behind, not even inside a transaction of the caller's."""
        from psycopg.rows import tuple_row

        with (
            self._lock,
            _explained(f"{doing} the table {self._name!r}"),
            self._client.transaction(force_rollback=True),
            self._client.cursor(row_factory=tuple_row) as cursor,
        ):
            cursor.execute(
                "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true)",
                (str(math.ceil(1000 * self._timeout)),),
            )
            yield cursor

    def _aggregate(self, expression: str) -> Any:
        with self._reading("reading") as cursor:
            row = cursor.execute(self._statement("SELECT " + expression + " FROM {table}"), ()).fetchone()
        assert row is not None
        return row[0]

    def _inspect(self, id: str, vector: str, text: str, metadata: str | None) -> tuple[dict[str, str], int]:
        """The types of the columns by name, and the dimensions of the vectors."""
        name = _table(self._name).as_string(self._client).replace("%%", "%")  # not part of a statement
        with self._reading("looking up") as cursor:
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
    with _explained("connecting"):
        return psycopg.connect(connection, connect_timeout=CONNECT_SECONDS), True


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn an error of the server or of the connection into a line that says what was being done."""
    import psycopg

    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise StoreError(f"PostgreSQL, {doing}: took longer than the timeout of this store") from error
    except psycopg.Error as error:
        said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"PostgreSQL, {doing}: {said}") from error


def _written(vector: NDArray[np.float32]) -> str:
    """A vector as pgvector reads it, to the last bit."""
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def _table(name: str) -> sql.Identifier:
    return _identifier(*name.split("."))


def _identifier(*parts: str) -> sql.Identifier:
    """A quoted name, in a statement that is given its parameters."""
    from psycopg import sql

    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def _verbatim(text: str) -> sql.SQL:
    """SQL as it stands, in a statement that is given its parameters: its per cent signs are none."""
    return _sql(text.replace("%", "%%"))


def _sql(text: str) -> sql.SQL:
    from psycopg import sql

    return sql.SQL(text)
