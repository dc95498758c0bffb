"""Vectors that exist already, from wherever they lie; and whose they are said to be."""

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from polyencoders.errors import DataError, IndexingError, ModelError
from polyencoders.index import Added, Index, verify


@pytest.fixture
def some():
    return np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture
def given():
    return [{"id": f"d{i}", "text": f"text {i % 40}", "year": 2000 + i} for i in range(50)]


def check(index, vectors_of, vectors, ids):
    stored = vectors_of(index)
    assert sorted(stored) == sorted(map(str, ids))
    for id, vector in zip(ids, vectors, strict=True):
        np.testing.assert_array_equal(stored[str(id)].astype(np.float32), np.asarray(vector, dtype=np.float32))
    assert verify(index.path) == []


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "list", "tensor", "bfloat16", "npy", "column-major"])
def test_arrays(some, given, vectors_of, tmp_path, kind):
    vectors = some
    if kind in ("float64", "float16"):
        vectors = some = some.astype(kind)
    elif kind == "list":
        vectors = some.tolist()
    elif kind == "tensor":
        vectors = torch.from_numpy(some).requires_grad_()
    elif kind == "bfloat16":
        vectors = torch.from_numpy(some).bfloat16()
        some = vectors.float().numpy()
    elif kind == "npy":
        vectors = tmp_path / "vectors.npy"
        np.save(vectors, some)
    elif kind == "column-major":
        vectors = np.asfortranarray(some)
    index = Index.from_vectors(tmp_path / "x", vectors, iter(given))
    check(index, vectors_of, some, [row["id"] for row in given])
    assert index.get(["d7", "d0"]) == [given[7], given[0]]
    assert index.maker is None


def test_no_documents(some, vectors_of, tmp_path):
    index = Index.from_vectors(tmp_path / "x", some)
    check(index, vectors_of, some, range(50))
    assert index.get(["3"]) == [{"id": "3", "text": None}]
    assert index.search(some[:1])[0][0].text is None


def test_texts_as_documents_and_of_the_same_id_the_last(some, vectors_of, tmp_path):
    index = Index.from_vectors(tmp_path / "x", some[:4], ["a", "b", "a", "c"])
    assert len(index) == 3
    assert verify(index.path) == []
    stored = {index.get([id])[0]["text"]: vector for id, vector in vectors_of(index).items()}
    np.testing.assert_array_equal(stored["a"].astype(np.float32), some[2])
    index = Index.from_vectors(tmp_path / "y", some[:3], [{"id": id, "text": "a"} for id in "xyx"])
    check(index, vectors_of, some[[2, 1]], ["x", "y"])


def test_more_than_are_read_at_once(vectors_of, tmp_path, monkeypatch):
    monkeypatch.setattr("polyencoders.index.adopting.AT_ONCE", 16)
    some, told = np.random.default_rng(0).normal(size=(100, 3)), []
    rows = [{"id": i % 90, "text": "a"} for i in range(100)]
    index = Index.from_vectors(tmp_path / "x", some, rows, advance=told.append)
    check(index, vectors_of, [*some[90:], *some[10:90]], range(90))
    assert sum(told) == 100


def table_of(some, given, kind):
    flat = pa.array(some.reshape(-1))
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(flat, some.shape[1])
    else:
        column = pa.array(some.astype(np.float64).tolist(), pa.list_(pa.float64()))
    columns = {name: [row[name] for row in given] for name in ("id", "text", "year")}
    return pa.table({**columns, "vector": column, "tags": [[f"t{i}"] for i in range(len(given))]})


@pytest.mark.parametrize("kind", ["fixed", "of any length"])
def test_parquet(some, given, vectors_of, tmp_path, kind):
    pa.parquet.write_table(table_of(some, given, kind), tmp_path / "v.parquet", row_group_size=20)
    index = Index.from_vectors(tmp_path / "x", tmp_path / "v.parquet")
    check(index, vectors_of, some, [row["id"] for row in given])
    assert index.get(["d5"]) == [{**given[5], "tags": ["t5"]}]
    assert len(index.search(some[:1], 50, where="year >= 2040")[0]) == 10


def test_other_names_of_columns(some, given, vectors_of, tmp_path):
    table = table_of(some, given, "fixed").rename_columns(["key", "body", "year", "embedding", "tags"])
    pa.parquet.write_table(table, tmp_path / "v.parquet")
    names = {"vector_column": "embedding", "text_column": "body", "id_column": "key"}
    index = Index.from_vectors(tmp_path / "x", str(tmp_path / "v.parquet"), **names)
    check(index, vectors_of, some, [row["id"] for row in given])
    assert index.get(["d5"]) == [{**given[5], "tags": ["t5"]}]
    with pytest.raises(DataError, match="no column 'vector' with vectors; it has key, body, year, embedding, tags"):
        Index.from_vectors(tmp_path / "y", tmp_path / "v.parquet")


def test_a_table_of_vectors_alone(some, vectors_of, tmp_path):
    pa.parquet.write_table(
        table_of(some, [{"id": 0, "text": "", "year": 0}] * 50, "x").select(["vector"]), tmp_path / "v.parquet"
    )
    index = Index.from_vectors(tmp_path / "x", tmp_path / "v.parquet")
    check(index, vectors_of, some, range(50))


@pytest.mark.parametrize("opened", [True, False])
def test_a_lancedb_table(some, given, vectors_of, tmp_path, opened):
    table = lancedb.connect(str(tmp_path / "db")).create_table("mine", table_of(some, given, "fixed"))
    table.delete("id = 'd3'")
    index = Index.from_vectors(tmp_path / "x", table if opened else tmp_path / "db" / "mine.lance")
    left = [i for i in range(50) if i != 3]
    check(index, vectors_of, some[left], [f"d{i}" for i in left])
    assert index.get(["d5"]) == [{**given[5], "tags": ["t5"]}]


def bad(some, place, value):
    changed = some.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda some: bad(some, (7, 2), np.nan), "vector 7 has numbers that are not finite"),
        (lambda some: bad(some, (0, 0), np.inf), "vector 0 has numbers that are not finite"),
        (lambda some: bad(some.astype(np.float64), (3, 0), 1e300), "vector 3 has numbers that are not finite"),
        (lambda some: torch.from_numpy(bad(some, (49, 5), np.nan)), "vector 49 has numbers"),
        (lambda some: [[1.0, 2.0], [1.0]], "vectors of different lengths"),
        (lambda some: some[0], r"expected floating-point numbers \(n, d\), got float32 \(6,\)"),
        (lambda some: some[None], r"got float32 \(1, 50, 6\)"),
        (lambda some: (some * 10).astype(int), "expected floating-point numbers"),
        (lambda some: ["a", "b"], "expected floating-point numbers"),
        (lambda some: some[:0], "no vectors to make an index of"),
        (lambda some: "nowhere.npy", "nowhere.npy: no such file"),
    ],
)
def test_what_are_no_vectors(some, tmp_path, wrong, said):
    with pytest.raises(DataError, match=said):
        Index.from_vectors(tmp_path / "x", wrong(some))
    assert not (tmp_path / "x").exists()


def test_files_that_are_no_vectors(some, tmp_path):
    (tmp_path / "v.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"read from \.npy and \.parquet files"):
        Index.from_vectors(tmp_path / "x", tmp_path / "v.txt")
    (tmp_path / "v.parquet").write_text("1 2 3")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        Index.from_vectors(tmp_path / "x", tmp_path / "v.parquet")
    ragged = [[1.0, 2.0], [1.0], [2.0, 3.0]]
    pa.parquet.write_table(pa.table({"vector": pa.array(ragged)}), tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match=r"vectors of different lengths: \[1, 2\]"):
        Index.from_vectors(tmp_path / "x", tmp_path / "ragged.parquet")
    for holes in ([[1.0, None], [1.0, 2.0]], [[1.0, 2.0], None]):
        pa.parquet.write_table(pa.table({"vector": pa.array(holes, pa.list_(pa.float32()))}), tmp_path / "h.parquet")
        with pytest.raises(DataError, match=r"not finite|in every row"):
            Index.from_vectors(tmp_path / "x", tmp_path / "h.parquet")
    pa.parquet.write_table(pa.table({"vector": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="expected a list of numbers"):
        Index.from_vectors(tmp_path / "x", tmp_path / "t.parquet")


def test_too_few_and_too_many_documents(some, given, tmp_path):
    with pytest.raises(DataError, match="50 vectors and only 49 documents"):
        Index.from_vectors(tmp_path / "x", some, given[:49])
    with pytest.raises(DataError, match="more documents than the 50 vectors"):
        Index.from_vectors(tmp_path / "y", some, [*given, "one more"])
    with pytest.raises(DataError, match="document 2: the text is empty"):
        Index.from_vectors(tmp_path / "z", some[:3], ["a", "b", ""])


def test_there_is_something_at_the_path(some, tmp_path):
    Index.from_vectors(tmp_path / "x", some)
    with pytest.raises(IndexingError, match=r"is an index; Index\.open opens it"):
        Index.from_vectors(tmp_path / "x", some)
    assert len(Index.open(tmp_path / "x")) == 50


def test_the_models_own_vectors_are_taken(poly, texts, tmp_path):
    given = texts(30)
    vectors = poly.encode_document(given)
    index = Index.from_vectors(tmp_path / "x", vectors, given, poly)
    made = Index.create(tmp_path / "y", poly)
    made.add(given, bf16=False)
    assert [hit.text for hit in index.search("amber")] == [hit.text for hit in made.search("amber")]
    assert index.maker == made.maker
    assert index.add([*given, "another"]) == Added(added=1, unchanged=30, encoded=1)
    assert len(Index.open(tmp_path / "x", poly).search("amber", 50)) == 31


@pytest.mark.parametrize(
    "wrong",
    [
        lambda own: np.random.default_rng(0).normal(size=own.shape).astype(np.float32),
        lambda own: own[::-1].copy(),
        lambda own: -own,
        lambda own: own / np.linalg.norm(own, axis=1, keepdims=True),
        np.zeros_like,
    ],
)
def test_vectors_of_another_model_are_refused(poly, texts, tmp_path, wrong):
    given = texts(30)
    with pytest.raises(ModelError, match="these vectors were not made by the document side of PolyEncoder"):
        Index.from_vectors(tmp_path / "x", wrong(np.asarray(poly.encode_document(given))), given, poly)
    assert not (tmp_path / "x").exists()


def test_vectors_of_another_dimension_are_refused(poly, some, given, tmp_path):
    with pytest.raises(ModelError, match=r"the vectors have 6 dimensions, and those of PolyEncoder .* 16"):
        Index.from_vectors(tmp_path / "x", some, given, poly)


def test_without_a_model_it_takes_none_later(some, given, poly, tmp_path):
    Index.from_vectors(tmp_path / "x", some, given)
    with pytest.raises(ModelError, match="was made of vectors alone"):
        Index.open(tmp_path / "x", poly)
    assert Index.open(tmp_path / "x").search(some[9:10], 1)[0][0].score > 0
