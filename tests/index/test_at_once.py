"""Documents added in one version, their chunks encoded in any order: as one after the other would have come out."""

import random
import shutil
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyencoders.errors import DataError, IndexingError
from polyencoders.index import Index, Watch, jobs, verify
from polyencoders.models import encode_documents

pytest.importorskip("lance", reason="needs polyencoders[ray]")

NAMES = ["id", "text", "text_hash", "content_hash", "vector"]


def made_up(texts, done):
    """A vector for every text, whatever stands beside it."""
    done(len(texts))
    digests = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16).astype(np.float32)


def shuffled(encode=made_up, stop_after=None, seen=None):
    """Runs wanted in another order than they come, as workers might."""

    def work(wanted):
        for done, job in enumerate(random.Random(0).sample(wanted, len(wanted))):
            if done == stop_after:
                raise KeyboardInterrupt
            if seen is not None:
                seen.append(job)
            table = Index.open(job.index)._writer.at(job.version)
            yield job.number, job.run(table, encode)

    return work


def interrupted_at_the_end(seen):
    def work(wanted):
        yield from shuffled(seen=seen)(wanted)
        raise KeyboardInterrupt

    return work


def with_model(model, bf16=None):
    return lambda texts, done: encode_documents(model, texts, bf16, done)


def held(index):
    """All there is in an index, by id, to the last bit."""
    index.refresh()
    rows = index.snapshot.table._table.to_arrow().to_pylist()
    assert len({row["id"] for row in rows}) == len(rows) == len(index)
    return {row["id"]: {name: value for name, value in row.items() if value is not None} for row in rows}


def messy(number, seed=0):
    """Documents with ids and texts that come again, and metadata that come late."""
    generator = random.Random(seed)
    for i in range(number):
        row = {"id": generator.randrange(number * 3 // 4), "text": f"word {generator.randrange(number // 2)}", "at": i}
        if generator.random() < 0.3:
            row["text"] += " and so on, for quite a while" * generator.randrange(3)
        if i > number // 2:
            row["tags"] = ["a", i]
        yield row


def test_it_comes_out_as_a_chunk_at_a_time_would(poly, tmp_path):
    one, two = (Index.create(tmp_path / name, poly) for name in ("one", "two"))
    first = [{"id": i, "text": f"word {i}"} for i in range(40)]
    for index in (one, two):
        index.add(first, bf16=False, chunk=16)
    before = two.version
    rows = list(messy(300))
    # A text whose last document was replaced is encoded again when it comes again: but not by `add_at_once`, which is a
    # matter of what other texts are beside it, and so of rounding.
    added = one.add(rows, bf16=False, chunk=16)
    at_once = two.add_at_once(rows, shuffled(with_model(poly, False)), bf16=False, chunk=16)
    assert (at_once.added, at_once.replaced, at_once.unchanged) == (added.added, added.replaced, added.unchanged)
    assert two.version == before + 2  # one with the new columns, empty, and one with the documents
    assert held(two).keys() == held(one).keys()
    for id, row in held(one).items():
        other = held(two)[id]
        assert other | {"vector": 0} == row | {"vector": 0}
        np.testing.assert_allclose(other["vector"], row["vector"], rtol=1e-5, atol=1e-6)
    assert verify(two.path) == []
    assert not (two.path / "staging").exists()


def test_vectors_are_the_same_to_the_bit(poly, texts, tmp_path):
    one, two = (Index.create(tmp_path / name, poly) for name in ("one", "two"))
    repeated = texts(90)
    rows = [{"id": i, "text": text} for i, text in enumerate(repeated + repeated[:30] + texts(50, seed=1))]
    added = one.add(rows, chunk=32)
    assert two.add_at_once(rows, shuffled(with_model(poly)), chunk=32) == added
    assert added.encoded == 140
    assert held(two) == held(one)
    assert two.version == 2


rows_of_few = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(0, 5), "text": st.sampled_from("abcdef")}, optional={"year": st.integers(0, 2)}
    ),
    min_size=1,
    max_size=24,
)


@given(base=rows_of_few, rows=rows_of_few, chunk=st.integers(1, 5))
@settings(max_examples=8)
def test_whatever_comes_again(poly, tmp_path_factory, base, rows, chunk):
    folder = tmp_path_factory.mktemp("again")
    one, two = (Index.create(folder / name, poly) for name in ("one", "two"))
    for index in (one, two):
        index.add(base, encode=made_up, chunk=24)
    added = one.add(rows, encode=made_up, chunk=chunk)
    at_once = two.add_at_once(rows, shuffled(), chunk=chunk)
    assert (at_once.added, at_once.replaced, at_once.unchanged) == (added.added, added.replaced, added.unchanged)
    assert held(two) == held(one)
    assert verify(two.path) == []
    shutil.rmtree(folder)


def test_an_interrupted_call_goes_on(poly, texts, tmp_path):
    rows = [{"id": i, "text": text} for i, text in enumerate(texts(100))]
    one, two = (Index.create(tmp_path / name, poly) for name in ("one", "two"))
    one.add(rows, encode=made_up, chunk=10)
    with pytest.raises(KeyboardInterrupt):
        two.add_at_once(rows, shuffled(stop_after=6), chunk=10)
    assert len(two) == 0
    assert verify(two.path) == []
    told = []
    added = two.add_at_once(rows, shuffled(), chunk=10, watch=Watch(planned=lambda *numbers: told.append(numbers)))
    assert told == [(100, 60)]
    assert (added.added, added.encoded) == (100, 40)
    assert held(two) == held(one)


def test_what_was_encoded_of_other_documents_or_by_other_means_is_not_taken(poly, texts, tmp_path):
    index = Index.create(tmp_path / "index", poly)
    rows = [{"id": i, "text": text} for i, text in enumerate(texts(40))]
    with pytest.raises(KeyboardInterrupt):
        index.add_at_once(rows, interrupted_at_the_end([]), chunk=10)
    others = [{**row, "text": row["text"] + "!"} if row["id"] == 5 else row for row in rows]
    seen = []
    with pytest.raises(KeyboardInterrupt):
        index.add_at_once(others, interrupted_at_the_end(seen), chunk=10)
    assert [job.number for job in seen] == [0]
    with pytest.raises(KeyboardInterrupt):
        index.add_at_once(rows, interrupted_at_the_end(seen), bf16=False, chunk=10)
    assert len(seen) == 1 + 4
    assert index.add_at_once(others, shuffled(), chunk=10).encoded == 0
    assert index.get([5])[0]["text"].endswith("!")


def test_a_bad_row_is_refused_before_anything_is_encoded(poly, tmp_path):
    index = Index.create(tmp_path / "index", poly)
    index.add(["here before"])
    seen = []
    rows = [{"id": i, "text": "word"} for i in range(30)]
    with pytest.raises(DataError, match=r"document 30 .*the text is empty"):
        index.add_at_once([*rows, {"id": 30, "text": " "}], shuffled(seen=seen), chunk=8)
    typed = [{**row, "year": row["id"]} for row in rows]
    with pytest.raises(DataError, match=r"'year' is '1999', and that of the documents before is of the type int64"):
        index.add_at_once([*typed, {"id": 31, "text": "a", "year": "1999"}], shuffled(seen=seen), chunk=8)
    with pytest.raises(TypeError, match="single str"):
        index.add_at_once("a text", shuffled(seen=seen))
    assert not seen
    assert (len(index), index.version) == (1, 2)
    assert not (index.path / "staging").exists()


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_a_commit_that_was_interrupted_is_done_again(links, poly, texts, tmp_path, monkeypatch):
    import lance

    if not links:
        monkeypatch.setattr("os.link", lambda *paths: (_ for _ in ()).throw(OSError("not supported")))
    index = Index.create(tmp_path / "index", poly)
    rows = [{"id": i, "text": text} for i, text in enumerate(texts(40))]
    with monkeypatch.context() as patch:
        patch.setattr(lance.LanceDataset, "commit", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            index.add_at_once(rows, shuffled(), chunk=10)
    assert len(list((index.path / "documents.lance" / "data").iterdir())) == 4
    index.add(["another writer, which takes the checksums of all files"])
    assert len(index) == 1
    added = index.add_at_once(rows, shuffled(), chunk=10)
    assert (added.added, added.encoded, len(index)) == (40, 0, 41)
    assert verify(index.path) == []


def test_documents_that_others_add_meanwhile_are_replaced(poly, texts, tmp_path):
    index = Index.create(tmp_path / "index", poly)
    rows = [{"id": i, "text": text} for i, text in enumerate(texts(20))]

    def work(wanted):
        Index.open(index.path, poly).add([{"id": 3, "text": "of another"}, {"id": 99, "text": "of another, too"}])
        yield from shuffled()(wanted)

    added = index.add_at_once(rows, work, chunk=10)
    assert (added.added, added.replaced) == (19, 1)
    assert len(index) == 21
    assert index.get([3, 99]) == [
        {"id": "3", "text": rows[3]["text"]},
        {"id": "99", "text": "of another, too"},
    ]


def test_a_column_that_others_make_otherwise_meanwhile_is_refused(poly, tmp_path):
    index = Index.create(tmp_path / "index", poly)
    rows = [{"id": i, "text": f"word {i}", "year": i} for i in range(4)]

    def work(wanted):
        Index.open(index.path, poly).add([{"text": "of another", "year": "1999"}])
        yield from shuffled()(wanted)

    with pytest.raises(IndexingError, match="metadata 'year' of the type string meanwhile, and here it is int64"):
        index.add_at_once(rows, work)
    assert len(index) == 1
    assert verify(index.path) == []
    with pytest.raises(DataError, match="'year' is 0, and that of the documents before is of the type string"):
        index.add_at_once(rows, shuffled())


def test_two_at_the_same_time_are_refused(poly, tmp_path):
    index = Index.create(tmp_path / "index", poly)

    def work(wanted):
        with pytest.raises(IndexingError, match="another process is adding documents"):
            Index.open(index.path, poly).add_at_once(["c"], shuffled())
        yield from shuffled()(wanted)

    assert index.add_at_once(["a", "b"], work).added == 2


def test_documents_that_end_every_worker_are_named(poly, tmp_path, monkeypatch):
    index = Index.create(tmp_path / "index", poly)

    class Ended(BaseException):
        pass

    def work(wanted):
        for _ in range(jobs.ATTEMPTS):
            with pytest.raises(Ended):
                next(shuffled(lambda texts, done: (_ for _ in ()).throw(Ended()))(wanted))
        yield from shuffled()(wanted)

    with pytest.raises(IndexingError, match=r"4 workers have ended .* chunk 0 \(2 documents from 'one' on\)"):
        index.add_at_once([{"id": "one", "text": "a"}, {"id": "two", "text": "b"}], work)


def test_a_machine_that_does_not_see_the_folder_is_named(poly, tmp_path):
    index = Index.create(tmp_path / "index", poly)

    def work(wanted):
        table = index._writer.at(wanted[0].version)
        shutil.rmtree(index.path / "staging" / "planned")
        yield wanted[0].number, wanted[0].run(table, made_up)

    with pytest.raises(IndexingError, match="does not see what is to be encoded: the index must lie in a folder"):
        index.add_at_once(["a"], work)
