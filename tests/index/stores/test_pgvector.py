"""Documents in PostgreSQL: a real server with pgvector, started for these tests and stopped after them."""

import numpy as np
import pytest

from polyencoders.index.stores import PgVectorStore, StoreError, search_store

psycopg = pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def store(server, corpus):
    with PgVectorStore.create(server, "documents", corpus.vectors.shape[1]) as store:
        store.add(corpus.rows)
        yield store


@pytest.fixture
def connection(server):
    with psycopg.connect(server, autocommit=True) as connection:
        yield connection


def test_the_ten_best_are_those_of_brute_force(store, corpus):
    assert len(store) == len(corpus.rows)
    assert store.longest == pytest.approx(1, abs=1e-6)
    corpus.check(search_store(store, corpus.codes, 10, corpus.temperature), 10)


def test_vectors_come_back_to_the_last_bit(store, corpus):
    documents = {document.id: document for document in store.fetch([row["id"] for row in corpus.rows[:50]] + ["gone"])}
    assert len(documents) == 50
    for row in corpus.rows[:50]:
        np.testing.assert_array_equal(documents[row["id"]].vector, row["vector"])


def test_a_condition_holds_for_every_hit(store, corpus):
    condition = "metadata->>'language' LIKE 'f%' AND (metadata->>'year')::int > 2010 -- French"
    answers = search_store(store, corpus.codes, 10, corpus.temperature, where=condition)
    corpus.check(answers, 10, lambda row: row["metadata"]["language"] == "fr" and row["metadata"]["year"] > 2010)


def test_a_condition_that_few_or_none_meet(store, corpus):
    few = search_store(store, corpus.codes, 10, corpus.temperature, where="id IN ('d00003', 'd00007')")
    corpus.check(few, 10, lambda row: row["id"] in ("d00003", "d00007"))
    assert {answer.bound for answer in few} == {-np.inf}
    assert search_store(store, corpus.codes[:1], where="false")[0].hits == []


def test_a_search_that_may_not_go_on_says_how_far_it_got(store, corpus):
    answers = search_store(store, corpus.codes, 10, 30.0, first=10, most=10)
    assert not any(answer.certified for answer in answers)
    assert all(0 < answer.gap < 10 for answer in answers)


@pytest.mark.parametrize("index", ["hnsw (vector vector_ip_ops)", "ivfflat (vector vector_ip_ops) WITH (lists = 40)"])
def test_an_index_is_used_only_where_it_may_be(index, store, corpus, connection):
    connection.execute(f"CREATE INDEX approximate ON documents USING {index}")
    connection.execute("ANALYZE documents")

    connection.execute("SET enable_seqscan = off")  # even where PostgreSQL is told to avoid reading whole tables

    def scans():
        connection.execute("SELECT pg_stat_force_next_flush()")
        statement = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'approximate'"
        return connection.execute(statement).fetchone()[0]

    try:
        exact = PgVectorStore(connection, metadata_column="metadata")
        corpus.check(search_store(exact, corpus.codes, 10, corpus.temperature), 10)
        assert scans() == 0
        approximate = PgVectorStore(connection, exact=False, longest=1.0, metadata_column="metadata")
        answers = search_store(approximate, corpus.codes, 10, corpus.temperature, first=200, most=200)
        found = approximate.search(corpus.codes[0, :1].astype(np.float32), 200)
        assert scans() > 0
        assert not any(answer.certified for answer in answers)
        assert len(found[0].ids) == 200  # HNSW would stop at 40, IVFFlat after one list
        overlap = [
            len({hit.id for hit in answer.hits} & set(corpus.best(query, 10))) for query, answer in enumerate(answers)
        ]
        assert np.mean(overlap) > 5
    finally:
        connection.execute("DROP INDEX approximate")


@pytest.mark.parametrize(
    "condition",
    [
        "EXISTS (SELECT set_config('transaction_read_only', 'off', true)) AND nextval('numbers') > 0",
        "nextval('numbers') > 0",
        "wipe()",
        "true); DELETE FROM documents; SELECT (true",
        "true); COMMIT; DELETE FROM documents; SELECT (true",
    ],
)
def test_a_condition_cannot_write(condition, store, corpus, connection):
    connection.execute("CREATE SEQUENCE IF NOT EXISTS numbers")
    connection.execute(
        "CREATE OR REPLACE FUNCTION wipe() RETURNS boolean AS 'DELETE FROM documents; SELECT true' LANGUAGE sql"
    )
    with pytest.raises(StoreError, match=r"read-only|read-write|multiple commands|syntax error"):
        search_store(store, corpus.codes, where=condition)
    assert len(store) == len(corpus.rows)
    assert connection.execute("SELECT is_called FROM numbers").fetchone() == (False,)


def test_a_condition_that_is_none_is_told_in_one_line(store, corpus):
    with pytest.raises(StoreError, match=r"searching the table 'documents'.*colour.*does not exist") as raised:
        search_store(store, corpus.codes, where="colour = 'red'")
    assert "\n" not in str(raised.value)
    assert search_store(store, corpus.codes)[0].certified  # and the connection is as good as before


NAMES = ['documents"; DROP TABLE documents; --', "documents; DROP TABLE documents", "docu\"ments'", "a..b", ""]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names_and_nothing_else(name, store, server, corpus):
    for settings in ({"table": name}, {"id_column": name}, {"vector_column": name}, {"metadata_column": name}):
        with pytest.raises(StoreError):
            PgVectorStore(server, **settings)
    assert len(store) == len(corpus.rows)


def test_names_may_be_odd(connection):
    connection.execute('CREATE SCHEMA "Odd; schema"')
    connection.execute(
        'CREATE TABLE "Odd; schema"."order" ("the ""id""" bigint PRIMARY KEY, "{}%s" vector(2), "Text" text, '
        "number int, code date)"
    )
    connection.execute(
        """INSERT INTO "Odd; schema"."order" VALUES (7, '[1,2]', 'seven', 3, '2020-02-20'), (8, NULL, 'none', 4, NULL),
        (9, '[0,1]', NULL, NULL, NULL)"""
    )
    columns = {"id_column": 'the "id"', "vector_column": "{}%s", "text_column": "Text"}
    store = PgVectorStore(connection, "Odd; schema.order", **columns)
    (answer,) = search_store(store, np.array([[1.0, 1.0]]))
    assert [(hit.id, hit.score, hit.text) for hit in answer.hits] == [("7", 3, "seven"), ("9", 1, "")]
    assert answer.hits[0].metadata["number"] == 3
    assert str(answer.hits[0].metadata["code"]) == "2020-02-20"
    assert len(store) == 2
    (answer,) = search_store(store, np.array([[1.0, 1.0]]), where="number = 3 AND code < 'tomorrow'")
    assert [hit.id for hit in answer.hits] == ["7"]


def test_what_the_table_lacks_is_said(server, store, connection):
    connection.execute("CREATE TABLE loose (id int, text text, vector vector, half halfvec(3))")
    for settings, says in [
        ({"table": "nothing"}, "no table 'nothing'"),
        ({"vector_column": "embedding"}, "no column 'embedding' among id, text, vector, metadata"),
        ({"vector_column": "text"}, "of the type vector, and is text"),
        ({"table": "loose"}, "does not say how many dimensions"),
        ({"table": "loose", "vector_column": "half"}, "and is halfvec"),
    ]:
        with pytest.raises(StoreError, match=says):
            PgVectorStore(server, **settings)
    connection.execute("CREATE DATABASE bare")
    with pytest.raises(StoreError, match="CREATE EXTENSION vector"):
        PgVectorStore(server.replace("dbname=postgres", "dbname=bare"))


def test_ids_must_be_unique(connection, store):
    connection.execute("CREATE TABLE twice (id int, text text, vector vector(1))")
    connection.execute("INSERT INTO twice VALUES (1, 'a', '[1]'), (1, 'b', '[2]')")
    with pytest.raises(StoreError, match="'id' must be unique"):
        search_store(PgVectorStore(connection, "twice"), np.ones((1, 1)))


def test_rows_are_added_all_or_none(connection, store):
    new = PgVectorStore.create(connection, "new", 2)
    new.add([{"id": 1, "text": "one", "vector": [3, 4]}])
    assert (len(new), new.longest) == (1, 5)
    for wrong, says in [
        ({"id": 1, "text": "again", "vector": [1, 1]}, "duplicate key"),
        ({"id": 3, "text": "long", "vector": [1, 1, 1]}, "expected 2 dimensions, not 3"),
        ({"id": 3, "text": "nan", "vector": [1, np.nan]}, "NaN"),
    ]:
        with pytest.raises(StoreError, match=says):
            new.add([{"id": 2, "text": "two", "vector": [60, 80]}, wrong])
    assert (len(new), new.longest) == (1, 5)
    with pytest.raises(StoreError, match=r"creating the table 'new'.*already exists"):
        PgVectorStore.create(connection, "new", 2)
    with pytest.raises(ValueError, match="timeout must be"):
        PgVectorStore(connection, "new", timeout=0)


def test_a_transaction_of_yours_is_left_as_it_was(server, store, corpus):
    from psycopg.rows import dict_row

    with psycopg.connect(server, row_factory=dict_row) as connection:
        connection.execute("CREATE TEMPORARY TABLE mine (n int)")
        mine = PgVectorStore(connection, metadata_column="metadata")
        corpus.check(search_store(mine, corpus.codes, 10, corpus.temperature), 10)
        connection.execute("INSERT INTO mine VALUES (1)")  # it can still write
        assert connection.execute("SHOW statement_timeout").fetchone() == {"statement_timeout": "0"}
        mine.close()
        assert not connection.closed


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="PostgreSQL, connecting") as raised:
        PgVectorStore(f"host={tmp_path} user=postgres password=secret")
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_dropped_connection_is_told(server, store, corpus, connection):
    with psycopg.connect(server) as other:
        own = PgVectorStore(other)
        connection.execute("SELECT pg_terminate_backend(%s)", (other.info.backend_pid,))
        for _ in range(2):
            with pytest.raises(StoreError, match="PostgreSQL, searching the table 'documents'"):
                search_store(own, corpus.codes)


def test_a_statement_that_takes_too_long_is_told(server, store, corpus):
    with (
        PgVectorStore(server, timeout=0.2) as hasty,
        pytest.raises(StoreError, match="searching the table 'documents': took longer"),
    ):
        search_store(hasty, corpus.codes, where="pg_sleep(1) IS NOT NULL")
