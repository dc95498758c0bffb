"""Documents go in whole, once, chunk by chunk; what is there is not encoded again."""

from datetime import UTC, datetime

import numpy as np
import pytest
from datasets import Dataset

from polyencoders.errors import DataError
from polyencoders.index import Added, Index


@pytest.fixture
def index(poly, tmp_path):
    return Index.create(tmp_path / "x", poly)


def documents(texts, number, **metadata):
    return [{"id": f"d{i}", "text": text, **metadata} for i, text in enumerate(texts(number))]


def cosines(first, second):
    return (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)


@pytest.mark.parametrize("bf16", [False, True, None])
def test_vectors_are_the_models(index, poly, texts, vectors_of, bf16):
    given = [*texts(40), "short", "a long one " * 100]
    index.add(({"id": i, "text": text} for i, text in enumerate(given)), bf16=bf16, chunk=16)
    stored = vectors_of(index)
    assert list(map(int, sorted(stored, key=int))) == list(range(42))
    own = np.asarray(poly.encode_document(given))
    kept = np.stack([stored[str(i)] for i in range(42)])
    if bf16 is False:
        np.testing.assert_allclose(kept, own, rtol=1e-4, atol=1e-5)
    else:
        assert cosines(kept, own).min() > 0.999


def test_texts_alone(index, texts):
    given = texts(5)
    assert index.add(given) == Added(added=5, encoded=5)
    hits = index.search("amber").hits
    assert sorted(hit.text for hit in hits) == sorted(given)
    assert all(hit.metadata == {} and len(hit.id) == 32 for hit in hits)
    assert index.get([hits[0].id]) == [{"id": hits[0].id, "text": hits[0].text}]


def test_metadata_of_each_type(index):
    given = [
        {
            "id": 7,
            "text": "a",
            "word": "it's",
            "year": 2020,
            "weight": 0.1,
            "open": True,
            "nothing": None,
            "at": datetime(2021, 3, 4, 5, 6, 7, 89),
            "tags": ["x", 1, None],
            "more": {"deep": [{"er": "ü"}]},
        },
        {"id": "b", "text": "b", "year": -1, "open": False, "tags": []},
    ]
    index.add(given)
    expected = [
        {**{name: value for name, value in row.items() if value is not None}, "id": str(row["id"])} for row in given
    ]
    assert index.get(["7", "b"]) == expected
    assert [{"id": hit.id, "text": hit.text, **hit.metadata} for hit in sorted(index.search("a"))] == expected
    for where in ("open", "year > 2000", "weight < 0.2", "word = 'it''s'", "at >= timestamp '2021-01-01'", "id = '7'"):
        assert [hit.id for hit in index.search("a", where=where)] == ["7"]
    types = index.info().metadata
    assert {name: types[name] for name in ("word", "year", "weight", "open")} == {
        "word": "string",
        "year": "int64",
        "weight": "double",
        "open": "bool",
    }
    assert index.add(given) == Added(unchanged=2)


def test_a_time_with_a_zone(index):
    index.add([{"id": "a", "text": "a", "at": datetime(2021, 3, 4, tzinfo=UTC)}])
    assert index.get(["a"])[0]["at"] == datetime(2021, 3, 4, tzinfo=UTC)


def test_names_that_sql_would_stumble_over(index):
    metadata = {"it's": "a", "two words": "b", 'q"q': "c", "select": "d", "Year": 1, "é": "e"}
    index.add([{"id": "a", "text": "a", **metadata}])
    assert index.get(["a"]) == [{"id": "a", "text": "a", **metadata}]
    assert len(index.search("a", where="`two words` = 'b'")) == 1


def test_fields_may_come_later(index):
    rows = [{"id": str(i), "text": f"text {i}"} for i in range(9)]
    rows[1]["lang"], rows[4]["year"], rows[5]["tags"] = "en", 2020, ["a"]
    rows[2]["late"] = None
    rows[8]["late"] = "now"
    index.add(rows, chunk=2)
    expected = [{name: value for name, value in row.items() if value is not None} for row in rows]
    assert index.get([row["id"] for row in rows]) == expected
    assert [hit.id for hit in index.search("text", where="year = 2020")] == ["4"]
    assert len(index.search("text", where="lang IS NULL")) == 8


@pytest.mark.parametrize(
    ("first", "then"),
    [("a", 1), (1, "a"), (1, 1.5), (1, True), (True, 1), ("a", ["a"]), (datetime(2020, 1, 1), "a"), (1, 2**70)],
)
def test_another_type_is_refused_with_its_chunk_and_no_more(index, first, then):
    rows = [{"id": str(i), "text": f"text {i}", "x": first} for i in range(4)]
    rows += [{"id": "4", "text": "text 4", "new": 1}, {"id": "5", "text": "text 5", "x": then}]
    with pytest.raises(DataError, match="document '5': its metadata 'x' is"):
        index.add(rows, chunk=2)
    assert len(index) == 4
    assert [row["x"] for row in index.get(["0", "1", "2", "3"])] == [first] * 4
    assert index.get(["4", "5"]) == []
    assert "new" not in index.info().metadata
    rows[5]["x"] = first
    assert index.add(rows, chunk=2) == Added(added=2, unchanged=4, encoded=2)


def test_a_row_that_cannot_be_kept_is_refused_with_its_chunk_and_no_more(index, texts):
    rows = [*texts(5), "", *texts(3, seed=1)]
    with pytest.raises(DataError, match="document 5: the text is empty"):
        index.add(rows, chunk=2)
    assert len(index) == 4


@pytest.mark.parametrize("one", ["a text", {"id": 1, "text": "a"}])
def test_a_single_document_is_no_list_of_them(index, one):
    with pytest.raises(TypeError, match="expected a list of texts or mappings"):
        index.add(one)
    assert len(index) == 0


def test_a_text_is_encoded_once(index, vectors_of):
    rows = [{"id": f"d{i}", "text": ("one", "two", "three")[i % 3], "place": i} for i in range(12)]
    assert index.add(rows, chunk=6) == Added(added=12, encoded=3)
    stored = vectors_of(index)
    for i in range(12):
        np.testing.assert_array_equal(stored[f"d{i}"], stored[f"d{i % 3}"])
    assert index.add([{"id": "other", "text": "two"}]) == Added(added=1, encoded=0)
    np.testing.assert_array_equal(vectors_of(index)["other"], stored["d1"])
    changed = [{**row, "place": -1} for row in rows]
    assert index.add(changed) == Added(replaced=12, encoded=0)
    assert {hit.metadata["place"] for hit in index.search("one", 100, where="id != 'other'")} == {-1}
    assert len(index) == 13


def test_what_the_model_reads(index, poly, monkeypatch):
    read, real = [], poly.encode_documents
    monkeypatch.setattr(poly, "encode_documents", lambda texts, *others: read.extend(texts) or real(texts, *others))
    index.add(["a", "b", "a", "c"], chunk=2)
    index.add(["c", "d", "a"])
    assert sorted(read) == ["a", "b", "c", "d"]


def test_the_same_again(index, texts):
    rows = documents(texts, 20, lang="en")
    assert index.add(rows, chunk=8) == Added(added=20, encoded=20)
    version = index.version
    assert index.add(iter(rows), chunk=8) == Added(unchanged=20)
    assert index.add(rows + rows) == Added(unchanged=40)
    assert (len(index), index.version) == (20, version)


def test_a_document_is_replaced_whole(index, poly, vectors_of):
    index.add([{"id": "a", "text": "amber", "lang": "en", "year": 1}, {"id": "b", "text": "birch", "lang": "en"}])
    assert index.add([{"id": "a", "text": "cedar", "lang": "de"}]) == Added(replaced=1, encoded=1)
    assert index.get(["a", "b"]) == [
        {"id": "a", "text": "cedar", "lang": "de"},
        {"id": "b", "text": "birch", "lang": "en"},
    ]
    assert cosines(vectors_of(index)["a"], np.asarray(poly.encode_document(["cedar"]))[0]) > 0.999
    assert [hit.id for hit in index.search("a", where="lang = 'en'")] == ["b"]


def test_of_the_same_id_the_last(index):
    rows = [{"id": i % 2, "text": f"text {i}"} for i in range(6)]
    done = index.add(rows, chunk=4)
    assert done.total == 6
    assert [row["text"] for row in index.get(["0", "1"])] == ["text 4", "text 5"]
    assert len(index) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_after_an_interruption_the_same_call_goes_on(index, texts, interruption):
    rows = documents(texts, 21)

    def until(number):
        yield from rows[:number]
        raise interruption

    with pytest.raises(interruption):
        index.add(until(14), chunk=4)
    assert sorted(hit.id for hit in index.search("amber", 100)) == sorted(row["id"] for row in rows[:12])
    done = index.add(iter(rows), chunk=4)
    assert done == Added(added=9, unchanged=12, encoded=9)
    assert len(index) == 21


def test_an_interruption_while_encoding(index, poly, texts, monkeypatch):
    rows, real = documents(texts, 12), poly.encode_documents

    def failing(some, *others):
        if rows[6]["text"] in some:
            raise KeyboardInterrupt
        return real(some, *others)

    monkeypatch.setattr(poly, "encode_documents", failing)
    with pytest.raises(KeyboardInterrupt):
        index.add(rows, chunk=4)
    assert len(index) == 4
    monkeypatch.undo()
    assert index.add(rows, chunk=4) == Added(added=8, unchanged=4, encoded=8)


def test_a_data_set(index):
    rows = {"text": ["amber", "birch", "cedar"], "year": [1, 2, 3], "tags": [["a"], [], ["b", "c"]]}
    index.add(Dataset.from_dict({"id": ["x", "y", "z"], **rows}), chunk=2)
    assert index.get(["z", "x"]) == [
        {"id": "z", "text": "cedar", "year": 3, "tags": ["b", "c"]},
        {"id": "x", "text": "amber", "year": 1, "tags": ["a"]},
    ]
    assert index.add(Dataset.from_dict({"text": ["amber"]})) == Added(added=1, encoded=0)


def test_every_document_is_told_of_once(index, texts):
    rows = documents(texts, 10)
    index.add(rows[:3])
    told = []
    index.add([*rows, rows[0], {"id": "same text", "text": rows[1]["text"]}, *documents(texts, 2)], advance=told.append)
    assert sum(told) == 14
    assert min(told) >= 0


def test_nothing_to_add(index):
    assert index.add([]) == Added()
    assert (len(index), index.add(iter(())).total) == (0, 0)


def test_ids_with_quotes_are_found_again(index):
    ids = ["it's", 'a"b', "x'; DROP TABLE documents; --", "%", "\\", "`", "ü", "\n"]
    rows = [{"id": id, "text": f"it's {i}"} for i, id in enumerate(ids)]
    index.add(rows)
    assert index.get(ids) == rows
    assert index.add(rows) == Added(unchanged=len(ids))
    assert index.get(["nobody", ids[3], ids[0], "it''s"]) == [rows[3], rows[0]]
