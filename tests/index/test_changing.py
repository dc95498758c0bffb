"""Every change is a version: who looks at one keeps seeing it, and whatever was changed, search finds what is there."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from polyencoders.errors import IndexingError
from polyencoders.index import Added, Index, verify

QUOTED = ["it's", 'a"b', "x'; DROP TABLE documents; --", "' OR '1'='1", "\\'", "ü"]


@pytest.fixture
def index(poly, tmp_path):
    return Index.create(tmp_path / "x", poly)


def ids(index, **arguments):
    return sorted(hit.id for hit in index.search("amber", 10_000, **arguments))


def rows(*names, text="text of {}", **metadata):
    return [{"id": name, "text": text.format(name), **metadata} for name in names]


@pytest.mark.parametrize("touched", [True, False])
def test_a_reader_keeps_its_version(index, poly, touched):
    index.add(rows("a", "b", "c", lang="en"))
    version = index.version
    reader = Index.open(index.path, poly)
    if touched:
        reader.search("amber")
    index.add(rows("d", year=2020))
    index.delete(["a"])
    index.add(rows("b", text="another {}"))
    assert ids(reader) == ["a", "b", "c"]
    assert reader.get(["a", "b", "d"]) == rows("a", "b", lang="en")
    assert (len(reader), reader.version, reader.search("amber").version) == (3, version, version)
    assert ids(reader, where="lang = 'en'") == ["a", "b", "c"]
    assert "year" not in reader.info().metadata
    reader.refresh()
    assert ids(reader) == ["b", "c", "d"]
    assert reader.get(["b"]) == rows("b", text="another {}")
    assert reader.version == index.version > version
    assert ids(reader, where="lang = 'en'") == ["c"]


def test_an_earlier_version_is_looked_at_and_not_changed(index, poly):
    index.add(rows("a", "b"))
    version = index.version
    index.delete(["a"])
    earlier = Index.open(index.path, poly, version=version)
    assert ids(earlier) == ["a", "b"]
    assert earlier.version == version
    for change in (
        lambda: earlier.add(["c"]),
        lambda: earlier.delete(["b"]),
        lambda: earlier.delete(where="true"),
        earlier.compact,
        earlier.refresh,
    ):
        with pytest.raises(IndexingError, match=f"was opened at version {version}, which does not change"):
            change()
    assert ids(earlier) == ["a", "b"]
    assert ids(Index.open(index.path, poly)) == ["b"]


def test_a_version_that_is_not_there(index):
    with pytest.raises(IndexingError, match=r"[Vv]ersion 99"):
        Index.open(index.path, version=99)


def test_two_writers_in_turn(index, poly):
    other = Index.open(index.path, poly)
    for i in range(4):
        assert index.add(rows(f"a{i}", "both", first=i)).total == 2
        assert other.add(rows(f"b{i}", "both", second=str(i))).total == 2
    expected = sorted([*(f"{name}{i}" for i in range(4) for name in "ab"), "both"])
    assert ids(other) == expected
    assert other.delete(["a0"]) == 1
    assert index.add(rows("b3", second="3")) == Added(unchanged=1)
    index.refresh()
    assert ids(index) == sorted(set(expected) - {"a0"})
    assert index.get(["both", "a2"]) == [*rows("both", second="3"), *rows("a2", first=2)]
    assert verify(index.path) == []


@pytest.mark.parametrize("gone", QUOTED)
def test_deleting_by_ids_that_sql_would_stumble_over(index, gone):
    index.add(rows(*QUOTED))
    assert index.delete([gone, "nobody"]) == 1
    assert ids(index) == sorted(set(QUOTED) - {gone})
    assert index.delete([gone]) == 0


def test_deleting_by_a_filter(index):
    index.add(rows("a", "b", year=1) + rows("c", year=2))
    assert index.delete(where="year = 1 AND id != 'b'") == 1
    assert index.delete(where="year > 5") == 0
    assert ids(index) == ["b", "c"]
    assert index.delete([]) == 0
    assert index.delete(where="true") == 2
    assert ids(index) == []
    assert index.add(rows("a")) == Added(added=1, encoded=1)


def test_deleting_wants_one_of_two(index):
    index.add(rows("a"))
    for arguments in ({}, {"ids": ["a"], "where": "true"}):
        with pytest.raises(ValueError, match="one of the two"):
            index.delete(**arguments)
    with pytest.raises(TypeError, match="expected a list of texts, got the text 'a'"):
        index.delete("a")
    for where in ("nosuch = 1", "", "a ="):
        with pytest.raises(IndexingError, match=f"the filter {where!r} cannot be used"):
            index.delete(where=where)
    assert ids(index) == ["a"]


def test_compacting_keeps_documents_and_forgets_versions(index, poly):
    for name in "abcdef":
        index.add(rows(name))
    index.delete(["c"])
    first = index.version
    before = index.info()
    index.compact(timedelta(0))
    assert ids(index) == list("abdef")
    assert index.info().versions < before.versions
    assert verify(index.path) == []
    with pytest.raises(IndexingError):
        Index.open(index.path, poly, version=first - 3)
    index.add(rows("g"))
    assert ids(Index.open(index.path, poly)) == list("abdefg")
    assert verify(index.path) == []


def test_what_there_is_to_know(small, index, texts):
    index.add([{"text": text, "lang": "en"} for text in texts(210)])
    info = index.info()
    assert (info.documents, info.dimension, info.laid_out, info.metadata) == (210, 16, 210, {"lang": "string"})
    assert (info.path, info.version, info.maker) == (index.path, index.version, index.maker)
    assert info.bytes > 210 * 16 * 4
    assert "210 documents" in repr(index)


def test_there_is_something_at_the_path(index, poly, tmp_path):
    with pytest.raises(IndexingError, match=r"is an index; Index\.open opens it"):
        Index.create(index.path, poly)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(IndexingError, match="is not empty; a new index wants a folder of its own"):
        Index.create(tmp_path, poly)
    with pytest.raises(IndexingError, match="is not empty"):
        Index.create(tmp_path / "file", poly)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert len(Index.create(tmp_path / "empty", poly)) == 0


def test_there_is_no_index(tmp_path):
    with pytest.raises(IndexingError, match="no such index"):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(IndexingError, match="a directory without an index"):
        Index.open(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(IndexingError, match="no such index"):
        Index.open(tmp_path / "file")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_was_changed_search_finds_what_is_there(small, index, poly, texts, truth, seed):
    """Adding beside a layout, replacing, deleting, compacting, in some order: always as by brute force."""
    generator = np.random.default_rng(seed)
    numbers = iter(range(10_000))

    def put(names):
        given = [
            {"id": name, "text": text, "group": int(generator.integers(5)), "tags": [text[:3]]}
            for name, text in zip(names, texts(len(names), seed=next(numbers) + 1000 * seed), strict=True)
        ]
        index.add(given, bf16=False, chunk=64)
        truth.put(given, np.asarray(poly.encode_document([row["text"] for row in given])))

    def check():
        assert len(index) == len(truth)
        for where, keep in (None, lambda _: True), ("group < 2", lambda metadata: metadata["group"] < 2):
            # The model's vectors are float32's, and batches of other sizes round them in another way.
            codes = generator.normal(size=(2, 3, 16))
            for mode in ("exact", "fast"):
                for query, answer in zip(codes, index.search(codes, 8, where, mode), strict=True):
                    scores = truth.scores(query, keep=keep)
                    assert {hit.id for hit in answer} <= set(scores)
                    for hit in answer:
                        assert (hit.text, hit.metadata) == truth.documents[hit.id][1:]
                    found = [scores[hit.id] for hit in answer]
                    np.testing.assert_allclose([hit.score for hit in answer], found, rtol=1e-4, atol=1e-4)
                    if answer.certified:
                        best = sorted(scores.values(), reverse=True)[:8]
                        np.testing.assert_allclose(found, best, rtol=1e-4, atol=1e-4)

    put([f"n{next(numbers)}" for _ in range(260)])
    assert index.info().laid_out == 260
    check()
    for _ in range(5):
        there = sorted(truth.documents)
        match generator.choice(["add", "replace", "delete", "filter", "compact", "refresh"]):
            case "add":
                put([f"n{next(numbers)}" for _ in range(int(generator.integers(1, 70)))])
            case "replace":
                put(generator.choice(there, 20, replace=False).tolist())
            case "delete":
                some = set(generator.choice(there, 15, replace=False).tolist())
                assert index.delete(sorted(some)) == truth.drop(lambda id, _, some=some: id in some) == 15
            case "filter":
                group = int(generator.integers(5))
                dropped = truth.drop(lambda id, metadata, group=group: metadata["group"] == group and id < "n15")
                assert index.delete(where=f"group = {group} AND id < 'n15'") == dropped
            case "compact":
                index.compact(timedelta(0) if generator.random() < 0.5 else timedelta(days=1))
            case "refresh":
                index = Index.open(index.path, poly)
        check()
    assert verify(index.path) == []


def test_what_another_process_renames_is_not_missed(index, monkeypatch):
    index.add(rows("a", "b"))
    before = index.info().bytes
    scratch = Path(index.path) / "documents.lance" / "_transactions" / ".tmp1"
    scratch.write_bytes(bytes(100))
    is_file = Path.is_file

    def gone_once_it_was_looked_at(path):
        found = is_file(path)
        path.unlink() if path == scratch else None
        return found

    monkeypatch.setattr(Path, "is_file", gone_once_it_was_looked_at)
    assert index.info().bytes == before
    assert not scratch.exists()
