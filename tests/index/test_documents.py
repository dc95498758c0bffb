"""What a document of an index may be, and what is said of one that cannot be kept."""

from datetime import datetime

import pyarrow as pa
import pytest

from polyencoders.errors import DataError
from polyencoders.index.documents import (
    LONGEST_ID,
    LONGEST_TEXT,
    chunks,
    document,
    json_columns,
    metadata_columns,
    metadata_of,
)


def test_a_text_and_a_mapping_are_the_same_document():
    assert document("Pancakes.") == document({"text": "Pancakes."})
    assert document({"text": "Pancakes.", "id": None}) == document("Pancakes.")


def test_the_same_contents_give_the_same_id():
    one = document({"text": "a", "lang": "en", "year": 2020})
    assert one.id == document({"year": 2020, "text": "a", "lang": "en"}, place=7).id
    others = [
        document("a"),
        document({"text": "b", "lang": "en", "year": 2020}),
        document({"text": "a", "lang": "de", "year": 2020}),
        document({"text": "a", "lang": "en", "year": "2020"}),
        document({"text": "a", "lang": "en", "year": True}),
    ]
    assert len({one.id, *(other.id for other in others)}) == 6
    assert len({document(text).text_hash for text in ("a", "a ", "A", "ä")}) == 4


def test_contents_do_not_depend_on_the_id():
    first, second = document({"id": "1", "text": "a"}), document({"id": 2, "text": "a"})
    assert (first.id, second.id) == ("1", "2")
    assert first.content_hash == second.content_hash == document("a").id


@pytest.mark.parametrize("id", ["x", "it's", 'a"b', "ü", " ", 0, -5, 10**30, "x" * LONGEST_ID])
def test_ids(id):
    assert document({"id": id, "text": "a"}).id == str(id)


@pytest.mark.parametrize("id", [True, 1.0, "", b"x", ["x"], "x" * (LONGEST_ID + 1), "\ud800"])
def test_bad_ids(id):
    with pytest.raises(DataError, match=r"^document 3.*(an id must be a text of 1 to 1,000|lone surrogate)"):
        document({"id": id, "text": "a"}, 3)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (5, "expected a text or a mapping with 'text', got int"),
        (None, "got NoneType"),
        (["a"], "got list"),
        ({}, "'text' must be a text, got None; its fields are nothing"),
        ({"texts": "a", "lang": "en"}, "its fields are 'texts', 'lang'"),
        ({"text": None}, "'text' must be a text, got None"),
        ({"text": 5}, "'text' must be a text, got 5"),
        ("", "the text is empty"),
        (" \n\t\u00a0", "the text is empty"),
        ("x" * (LONGEST_TEXT + 1), "has 10,000,001 characters, expected at most 10,000,000"),
        ("lone \ud800", "lone surrogate"),
        ({"text": "a", "lang": "\udfff"}, "lone surrogate"),
        ({"text": "a", "tags": ["b", "\udfff"]}, "lone surrogate"),
        ({"text": "a", "\udfff": "b"}, "lone surrogate"),
        ({"text": "a", "keys": {1: "b", "c": "d"}}, "the metadata cannot be kept"),
        ({"text": "a", "keys": {(1, 2): "b"}}, "the metadata cannot be kept"),
    ],
)
def test_rows_that_cannot_be_kept(row, said):
    with pytest.raises(DataError) as raised:
        document(row, 12)
    assert str(raised.value).startswith("document 12")
    assert said in str(raised.value)


def test_contents_that_contain_themselves():
    tags = []
    tags.append(tags)
    with pytest.raises(DataError, match="the metadata cannot be kept"):
        document({"text": "a", "tags": tags})


@pytest.mark.parametrize(
    "name",
    [
        "vector",
        "text_hash",
        "content_hash",
        "score",
        "_rowid",
        "_distance",
        "",
        "*",
        "a`b",
        "a.b",
        "\0",
        "a\0",
        5,
        None,
    ],
)
def test_names_that_metadata_cannot_have(name):
    with pytest.raises(DataError, match=r"document 0 \(id 'x'\): metadata cannot be named"):
        document({"id": "x", "text": "a", name: "value"})


def test_of_the_same_id_in_a_chunk_the_last():
    rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": "1", "text": "c"}, {"id": 1, "text": "d"}]
    assert [[(one.id, one.text) for one in chunk] for _, chunk in chunks(rows, 3)] == [
        [("1", "c"), ("2", "b")],
        [("1", "d")],
    ]


def test_a_bad_row_is_named_by_its_place_among_all():
    with pytest.raises(DataError, match="document 5: the text is empty"):
        list(chunks(iter(["a", "b", "c", "d", "e", "", "f"]), 2))


def columns(*rows, known=None):
    documents = [document({"text": "a", "id": i, **row}) for i, row in enumerate(rows)]
    return metadata_columns(documents, pa.schema(known or []))


def test_metadata_comes_back_as_it_was():
    rows = [
        {"s": "x", "i": 2**62, "f": 0.1, "b": True, "t": datetime(2020, 5, 17, 12, 30, 1, 999)},
        {"list": [1, "a", None], "object": {"x": {"y": [1.5]}}, "s": ""},
        {"i": -1, "nothing": None},
    ]
    made = columns(*rows)
    schema = pa.schema(list(made))
    assert "nothing" not in schema.names
    table = pa.table(list(made.values()), schema=schema)
    kept = [metadata_of(row, json_columns(schema)) for row in table.to_pylist()]
    assert kept == [rows[0], rows[1], {"i": -1}]


def test_a_whole_number_may_stand_among_fractions_but_is_not_made_of_one():
    (array,) = columns({"x": 1.5}, {"x": 2}).values()
    assert array.to_pylist() == [1.5, 2.0]
    with pytest.raises(DataError, match=r"document '1'.*'x' is 1\.5.*type int64"):
        columns({"x": 1}, {"x": 1.5}, known=[pa.field("x", pa.int64())])


def test_a_value_of_another_type_is_named():
    with pytest.raises(DataError, match=r"document '2': its metadata 'x' is 'c'.*of the type int64"):
        columns({"x": 1}, {"x": None}, {"x": "c"})
    with pytest.raises(DataError, match=r"document '0': its metadata 'x' is True.*of the type string"):
        columns({"x": True}, known=[pa.field("x", pa.string())])
