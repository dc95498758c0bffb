"""Many writers at one index in a bucket, and a server that goes away: nothing is lost, and nothing is there twice."""

import multiprocessing
import time
from datetime import timedelta

import numpy as np
import pytest

from polyencoders.errors import IndexingError, StorageError
from polyencoders.index import Index, is_index, layout, storage, table, verify

obstore = pytest.importorskip("obstore", reason="needs polyencoders[s3]")
pytest.importorskip("lancedb", reason="needs polyencoders[index]")
pytest.importorskip("resource", reason="kills and forks are those of POSIX")

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["polyencoders.index"])  # not the engine: its threads do not survive a fork

PROCESS = """
import os
from datetime import timedelta
from unittest import mock

os.environ.update(environment)

import numpy as np
from polyencoders.errors import StorageError
from polyencoders.index import Index

def vectors_of(texts, done):  # in place of a model, so that the time is spent writing
    return np.stack([np.random.default_rng(len(text)).normal(size=16) for text in texts]).astype(np.float32)

def write(index, i):
    own = [{"id": f"{who}-{i}-{j}", "text": "own", "who": who, f"of_{who}": i} for j in range(12)]
    both = [{"id": name, "text": who} for name in (f"both-{i}", "always")]
    index.add([*own, *both], encode=vectors_of)
    told.send(i)
    if i % 3 == 2:
        index.delete([f"{who}-{i}-0"])

with mock.patch("polyencoders.index.index.LAID_OUT_FROM", 100):
    index = Index.open(place, storage_options={"client_max_retries": "0"})  # who waits does not matter here
    for i in range(rounds):
        try:
            index.compact(timedelta(0)) if who == "compacts" else write(index, i)
        except StorageError as error:
            told.send(str(error))
            break
"""
"""Adds documents of its own and ones that others add, deletes some, and lays out what is there; or compacts."""


class Worker:
    """A process at an index; what it says is what was acknowledged to it."""

    def __init__(self, place, who, rounds, environment):
        self._told, told = processes.Pipe(duplex=False)
        given = {"place": place, "who": who, "rounds": rounds, "environment": environment, "told": told}
        self.process = processes.Process(target=exec, args=(PROCESS, given))
        self.process.start()
        told.close()

    def told(self):
        """The next thing it says; None when it has ended."""
        try:
            return self._told.recv()
        except EOFError:
            self.process.join()
            return None

    def told_all(self):
        return list(iter(self.told, None))

    def kill(self):
        self.process.kill()
        self.process.join()


@pytest.fixture
def worker(object_storage, tmp_path):
    """Starts a process at an index, on a machine of its own."""
    started = []

    def start(place, who, rounds):
        environment = {**object_storage.environment, "POLYENCODERS_CACHE": str(tmp_path / who), "OMP_NUM_THREADS": "1"}
        started.append(Worker(place, who, rounds, environment))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def empty(place):
    """An index of vectors of 16 dimensions, that no model made."""
    Index.from_vectors(place, np.ones((1, 16), dtype=np.float32), [{"id": "first", "text": "first"}])
    return place


def rows(*names, **metadata):
    return [{"id": name, "text": f"text of {name}", **metadata} for name in names]


def numbered(start, stop):
    return rows(*(f"d{i}" for i in range(start, stop)))


def vectors_of(texts, done):
    return np.ones((len(texts), 16), dtype=np.float32)


def ids(index):
    return sorted(hit.id for hit in index.search(np.ones((1, 16)), 100_000)[0])


def written_by(*writers, rounds):
    """What is there when they are done."""
    own = {f"{who}-{i}-{j}" for who in writers for i in range(rounds) for j in range(12)}
    own -= {f"{who}-{i}-0" for who in writers for i in range(2, rounds, 3)}
    return sorted(own | {"first", "always", *(f"both-{i}" for i in range(rounds))})


# -- several writers ---------------------------------------------------------------------------------------------------


def test_writers_and_compactions_at_once_lose_nothing_and_double_nothing(empty, worker):
    rounds = 4
    working = [worker(empty, who, rounds) for who in ("a", "b", "c", "compacts")]
    reader, seen = Index.open(empty), 1
    while any(one.process.is_alive() for one in working):
        reader.refresh()
        assert len(reader) >= seen - 2 * 3, "no more is gone than was deleted"
        seen = len(reader)
        time.sleep(0.1)
    for one in working:
        assert (one.told_all()[rounds:], one.process.exitcode) == ([], 0)
    index = Index.open(empty)
    assert ids(index) == written_by("a", "b", "c", rounds=rounds)
    assert index.get(["b-3-7"]) == [{"id": "b-3-7", "text": "own", "who": "b", "of_b": 3}]
    assert index.info().laid_out > 100
    assert verify(empty) == []


def test_a_killed_writer_leaves_the_version_before_or_after(empty, worker):
    generator = np.random.default_rng(3)
    for attempt in range(2):
        one = worker(empty, f"w{attempt}", 500)
        assert one.told() == 0
        time.sleep(generator.uniform(0.05, 0.8))
        one.kill()
        acknowledged = 1 + len(one.told_all())
        there = set(ids(Index.open(empty)))
        for i in range(500):
            chunk = {f"w{attempt}-{i}-{j}" for j in range(1, 12)}
            assert len(chunk & there) in (0, 11), "a chunk is there as a whole, or not at all"
            assert i >= acknowledged or chunk <= there
        assert verify(empty) == []
        index = Index.open(empty)
        index.add([{"id": f"after-{attempt}", "text": "after"}], encode=vectors_of)
        assert f"after-{attempt}" in ids(index)
        assert verify(empty) == []


def test_who_is_overtaken_too_often_is_told_what_to_do(empty, monkeypatch):
    index = Index.open(empty)

    def overtaken(*given):
        raise RuntimeError("lance error: Retryable commit conflict for version 7: please retry")

    monkeypatch.setattr(table, "_TRIES", 2)
    monkeypatch.setattr(type(index._writer._table), "merge_insert", overtaken)
    with pytest.raises(IndexingError, match=r"2 attempts came too late.*the same call goes on") as raised:
        index.add(rows("a"), encode=vectors_of)
    assert empty in str(raised.value)


def test_a_version_that_a_compaction_has_removed_is_said_to_be_gone(poly, place, object_storage):
    reader = Index.create(place, poly)
    reader.add(rows("a", "b"))
    with_a = Index.open(place, poly)
    assert len(with_a) == 2
    writer = Index.open(place, poly)
    writer.add(rows("c"))
    writer.delete(["a"])
    writer.compact(timedelta(0))
    with pytest.raises(
        IndexingError, match=r"is not there\. If another process has just removed old versions, refresh"
    ):
        with_a.search(np.ones((1, 16)), where="id != 'b'")
    with_a.refresh()
    assert [hit.id for hit in with_a.search(np.ones((1, 16)), where="id != 'b'")[0]] == ["c"]


def test_lists_of_the_same_checksums_do_not_take_each_other_away(empty, monkeypatch):
    """Of two who seal the same files, one is slow; meanwhile the list of the other is joined with those before it."""
    quick, slow = (table.checksums_of(storage.existing(empty)) for _ in range(2))
    same = {"search/file": (1, "0" * 32)}
    assert quick._write(same)
    update = slow.storage.update

    def later(name, change):
        assert quick._write(*quick.known())
        return update(name, change)

    monkeypatch.setattr(slow.storage, "update", later)
    assert slow._write(same)
    assert slow.known()[0] == quick.known()[0] == {**quick.known()[0], **same}


def test_a_put_whose_answer_is_lost_is_done_once(poly, place, monkeypatch):
    """The client tries again, and is told that somebody has changed the object: it has."""
    put, lost = obstore.put, []

    def without_answer(store, name, content, **given):
        done = put(store, name, content, **given)
        if "mode" in given:
            lost.append(name)
            raise obstore.exceptions.PreconditionError("412 Precondition Failed")
        return done

    monkeypatch.setattr(obstore, "put", without_answer)
    index = Index.create(place, poly)
    index.add(rows("a", "b"))
    index.compact(timedelta(0))
    assert {"index.json", "seals/lists"} == set(lost)
    assert ids(Index.open(place, poly)) == ["a", "b"]
    assert verify(place) == []


def test_a_store_that_ignores_conditions_is_refused(poly, place, monkeypatch):
    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda store, name, content, mode=None: put(store, name, content))
    with pytest.raises(StorageError, match="knows no puts on condition"):
        Index.create(place, poly)
    assert not is_index(place)


def test_of_two_layouts_made_at_once_one_stays(small, poly, place):
    """A writer that uploads a layout while another ends one of a later version finds its own whole."""
    index = Index.create(place, poly)
    index.add(numbered(0, 210))
    kept = storage.existing(place)
    with layout.writing(kept, "00000001-0000-slow", table.checksums_of(kept)) as scratch:
        (scratch / "vectors.npy").write_bytes(b"slow")
        kept.write("search/00000001-0000-slow/begun", b"half of it")
        index.add(numbered(210, 600))
    assert "search/00000001-0000-slow/begun" in kept.files("search")
    index.add(numbered(600, 900))
    assert not [name for name in kept.files("search") if "slow" in name], "it was whole, and is outdated"
    assert verify(place) == []


def test_of_two_who_make_the_same_index_one_does(poly, place):
    def slow():
        with storage.new(place) as begun:
            begun.write("something", b"begun")
            Index.create(place, poly).add(rows("a"))

    with pytest.raises(IndexingError, match="another process has just made an index there"):
        slow()
    assert ids(Index.open(place, poly)) == ["a"]
    with pytest.raises(IndexingError, match=r"is an index; Index\.open opens it"):
        Index.create(place, poly)


def test_what_a_killed_creator_left_is_in_nobodys_way(poly, place, object_storage):
    _, _, prefix = place.removeprefix("s3://").partition("/")
    obstore.put(object_storage.store(), f"{prefix}/{'a' * 32}/documents.lance/_versions/1.manifest", b"begun")
    assert not is_index(place)
    assert len(Index.create(place, poly)) == 0
    obstore.put(object_storage.store(), f"{prefix}-mine/file", b"mine")
    with pytest.raises(IndexingError, match="is not empty"):
        Index.create(f"{place}-mine", poly)


# -- a server that goes away -------------------------------------------------------------------------------------------


def everything_asked(index, place, options):
    """What needs the server, each as a call."""
    return {
        "add": lambda: index.add(rows("more"), encode=vectors_of),
        "filter": lambda: index.search(np.ones((1, 16)), where="id = 'd7'"),
        "get": lambda: index.get(["d5"]),
        "open": lambda: Index.open(place, storage_options=options),
        "verify": lambda: verify(place, storage_options=options),
    }


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_a_server_that_stops_answering(how, small, poly, place, object_storage):
    options = {"client_max_retries": "0", "timeout": "1s" if how == "silent" else "20s"}
    index = Index.create(place, poly, storage_options=options)
    index.add(numbered(0, 230))
    index.add(rows("beside"))
    codes = np.random.default_rng(0).normal(size=(2, 2, 16))
    expected = index.search(codes), index.search(codes, where="id = 'd3'")
    version = index.version
    object_storage.kill() if how == "killed" else object_storage.pause()
    try:
        assert (index.search(codes), index.search(codes, where="id = 'd3'")) == expected, "from memory and the cache"
        for name, call in everything_asked(index, place, options).items():
            if how == "silent" and name not in ("filter", "open"):
                continue  # each waits for several times a second
            with pytest.raises(StorageError, match=rf"{object_storage.endpoint} does not answer") as raised:
                call()
            assert "What was written before is there" in str(raised.value), name
            assert object_storage.SECRET not in str(raised.value)
    finally:
        object_storage.start() if how == "killed" else object_storage.resume()
    index.refresh()
    assert index.version >= version, "what was asked for and not answered may have been done"
    assert index.add(rows("more")).total == 1
    index.delete(["d1"])
    expected = sorted({"more", "beside", *(f"d{i}" for i in range(230))} - {"d1"})
    assert ids(index) == ids(Index.open(place, poly)) == expected
    assert verify(place) == []


def test_a_server_killed_under_a_writer(empty, worker, object_storage):
    one = worker(empty, "a", 500)
    while one.told() != 1:
        pass
    object_storage.kill()
    try:
        *more, said = one.told_all()
    finally:
        object_storage.start()
    assert f"{object_storage.endpoint} does not answer" in said
    assert one.process.exitcode == 0
    acknowledged = 2 + len(more)
    there = set(ids(Index.open(empty)))
    for i in range(acknowledged + 1):
        chunk = {f"a-{i}-{j}" for j in range(1, 12)}
        assert len(chunk & there) in (0, 11)
        assert i >= acknowledged or chunk <= there
    assert verify(empty) == []
    again = worker(empty, "a", acknowledged + 2)
    assert again.told_all() == list(range(acknowledged + 2)), "the same call goes on"
    assert ids(Index.open(empty)) == written_by("a", rounds=acknowledged + 2)
    assert verify(empty) == []
