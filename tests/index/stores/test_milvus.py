"""Documents in Milvus: a real server, Milvus Lite, started for these tests and stopped after them."""

import logging

import numpy as np
import pytest

from polyencoders.index.stores import MilvusStore, StoreError, search_store

pymilvus = pytest.importorskip("pymilvus")


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """The client logs every refusal, which some of these tests ask for."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def store(address, corpus):
    with MilvusStore.create(address, "documents", corpus.vectors.shape[1]) as store:
        store.add(corpus.rows)
        yield store


@pytest.fixture(scope="module")
def client(address):
    client = pymilvus.MilvusClient(address)
    yield client
    client.close()


def with_index(client, name, index, metric, **options):
    """A collection of three documents, ids numbers, and such an index."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("body", pymilvus.DataType.VARCHAR, max_length=100)
    schema.add_field("embedding", pymilvus.DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("year", pymilvus.DataType.INT64)
    indexes = client.prepare_index_params()
    indexes.add_index("embedding", index_type=index, metric_type=metric, **options)
    client.create_collection(name, schema=schema, index_params=indexes)
    client.load_collection(name)
    rows = [([1, 0], 2001), ([0, 1], 2002), ([3, 4], 2003)]
    client.insert(
        name,
        [
            {"key": key, "body": f"number {key}", "embedding": vector, "year": year}
            for key, (vector, year) in enumerate(rows)
        ],
    )


FIELDS = {"vector_field": "embedding", "text_field": "body"}


def test_the_ten_best_are_those_of_brute_force(store, corpus):
    assert store.exact
    assert len(store) == len(corpus.rows)
    assert store.longest == pytest.approx(1, abs=1e-6)
    corpus.check(search_store(store, corpus.codes, 10, corpus.temperature), 10)


def test_an_address_finds_the_same(address, store, corpus):
    with MilvusStore(address, metadata_field="metadata") as other:
        assert other.longest == store.longest
        corpus.check(search_store(other, corpus.codes, 10, corpus.temperature), 10)


def test_vectors_come_back_to_the_last_bit(store, corpus):
    documents = {document.id: document for document in store.fetch([row["id"] for row in corpus.rows[:50]] + ["gone"])}
    assert len(documents) == 50
    for row in corpus.rows[:50]:
        np.testing.assert_array_equal(documents[row["id"]].vector, row["vector"])


def test_a_condition_holds_for_every_hit(store, corpus):
    condition = 'metadata["language"] == "fr" and metadata["year"] > 2010'
    answers = search_store(store, corpus.codes, 10, corpus.temperature, where=condition)
    corpus.check(answers, 10, lambda row: row["metadata"]["language"] == "fr" and row["metadata"]["year"] > 2010)


def test_a_condition_that_few_or_none_meet(store, corpus):
    few = search_store(store, corpus.codes, 10, corpus.temperature, where='id in ["d00003", "d00007"]')
    corpus.check(few, 10, lambda row: row["id"] in ("d00003", "d00007"))
    assert {answer.bound for answer in few} == {-np.inf}
    assert search_store(store, corpus.codes[:1], where='id == "nobody"')[0].hits == []


def test_a_search_that_may_not_go_on_says_how_far_it_got(store, corpus):
    answers = search_store(store, corpus.codes, 10, 30.0, first=10, most=10)
    assert not any(answer.certified for answer in answers)
    assert all(0 < answer.gap < 10 for answer in answers)


def test_ids_may_hold_anything(address):
    ids = ['a\' or "b"', "back\\slash", "new\nline", "tab\t", "é ☃", "{x}", "%s", '"] or id in ["']
    with MilvusStore.create(address, "odd", 2) as store:
        store.add({"id": id, "text": id, "vector": [1, number]} for number, id in enumerate(ids))
        (answer,) = search_store(store, np.array([[0.0, 1.0]]), k=len(ids))
        assert [hit.id for hit in answer.hits] == [hit.text for hit in answer.hits] == ids[::-1]


def test_ids_may_be_numbers_and_metadata_fields(client):
    with_index(client, "numbers", "FLAT", "IP")
    store = MilvusStore(client, "numbers", **FIELDS)
    (answer,) = search_store(store, np.array([[1.0, 1.0]]), where="year > 2001")
    assert [(hit.id, hit.score, hit.text, hit.metadata) for hit in answer.hits] == [
        ("2", 7, "number 2", {"year": 2003}),
        ("1", 1, "number 1", {"year": 2002}),
    ]
    assert answer.certified
    assert store.longest == 5


def test_another_index_is_not_certified(client):
    with_index(client, "graph", "HNSW", "IP", params={"M": 8, "efConstruction": 64})
    store = MilvusStore(client, "graph", **FIELDS)
    (answer,) = search_store(store, np.array([[1.0, 1.0]]), k=2)
    assert not answer.certified
    assert [hit.id for hit in answer.hits] == ["2", "0"]
    with pytest.raises(StoreError, match="index HNSW is not exact; FLAT is"):
        MilvusStore(client, "graph", **FIELDS, exact=True)


@pytest.mark.parametrize(
    ("metric", "says"), [("COSINE", "COSINE.*inner product, IP; it leaves out how long"), ("L2", "L2.*product, IP$")]
)
def test_other_metrics_are_refused(metric, says, client):
    with_index(client, f"other_{metric}", "FLAT", metric)
    with pytest.raises(StoreError, match=says):
        MilvusStore(client, f"other_{metric}", **FIELDS)


def test_what_the_collection_lacks_is_said(address, store):
    for settings, says in [
        ({"collection": "nothing"}, "no collection 'nothing'"),
        ({"collection": "documents; drop"}, "documents; drop"),
        ({"vector_field": "embedding"}, "no field 'embedding' among id, text, vector, metadata"),
        ({"vector_field": "text"}, "must be a FLOAT_VECTOR, and is VARCHAR"),
    ]:
        with pytest.raises(StoreError, match=says):
            MilvusStore(address, **settings)
    with pytest.raises(StoreError, match="'documents' already"):
        MilvusStore.create(address, "documents", 2)
    with pytest.raises(ValueError, match="timeout must be"):
        MilvusStore(address, timeout=0)


def test_bad_requests_are_told_in_one_line(store, corpus):
    with pytest.raises(StoreError, match=r"searching the collection 'documents'.*colour") as raised:
        search_store(store, corpus.codes, where="colour == 'red'")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="1 to 16,384 neighbours of a vector, asked for 16385"):
        store.search(corpus.vectors[:1], 16_385)
    with pytest.raises(StoreError, match="adding to the collection 'documents'"):
        store.add([{"id": "long", "text": "long", "vector": [1, 1, 1]}])
    assert search_store(store, corpus.codes)[0].certified


def test_a_server_that_stops_or_is_not_there_is_told(serve_milvus, tmp_path):
    address, stop = serve_milvus(tmp_path)
    store = MilvusStore.create(address, "documents", 2, timeout=2.0)
    store.add([{"id": "a", "text": "a", "vector": [1, 1]}])
    assert search_store(store, np.ones((1, 2)))[0].certified
    stop()
    with pytest.raises(StoreError, match="Milvus, searching the collection 'documents'") as raised:
        search_store(store, np.ones((1, 2)))
    assert "\n" not in str(raised.value)
    store.close()
    with pytest.raises(StoreError, match="Fail connecting"):
        MilvusStore(address, timeout=1.0)
