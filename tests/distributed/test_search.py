"""Search over shards is search on one machine: the same hits, certificates and bounds; a lost shard is no lie."""

import threading
import time

import numpy as np
import pytest
import ray

from polyencoders.distributed import PartialAnswer, ShardedIndex
from polyencoders.distributed.shard import Shard
from polyencoders.errors import ClusterError, IndexingError
from polyencoders.index import Index
from polyencoders.index.share import View

CODES = np.random.default_rng(1).normal(size=(25, 3, 16))


@pytest.fixture
def spread(cluster, index, model):
    """Open the index over shards; they end with the test."""
    opened = []

    def on(shards=3, **settings):
        opened.append(ShardedIndex.on(cluster, index.path, model, shards=shards, threads=1, **settings))
        return opened[-1]

    yield on
    for one in opened:
        one.close()


def kill(index, part, replica=0):
    """End a shard's process, as a machine that fails would."""
    ray.kill(index.shards.replicas[part][replica], no_restart=False)


def test_hits_certificates_and_bounds_are_those_of_one_machine(spread, index):
    index.refresh()
    sharded = spread(4)
    assert (len(sharded), sharded.version, sharded.info()) == (len(index), index.version, index.info())
    for k in (1, 10, 700):
        assert sharded.search(CODES, k) == index.search(CODES, k)
    assert sharded.search(CODES, 5, "year > 1950 AND odd") == index.search(CODES, 5, "year > 1950 AND odd")
    assert sharded.search(CODES, 5, "year = 5000") == index.search(CODES, 5, "year = 5000")
    assert sharded.search("amber cedar", 3) == index.search("amber cedar", 3)
    assert sharded.get(["d7", "d3", "d8"]) == index.get(["d7", "d3", "d8"])


def test_ties_are_broken_as_on_one_machine(cluster, tmp_path, small):
    vectors = np.tile(np.eye(4, dtype=np.float32), (90, 1))  # ninety documents score the same
    index = Index.from_vectors(tmp_path / "ties", vectors)
    sharded = ShardedIndex.on(cluster, index.path, shards=3, threads=1)
    try:
        for k in (1, 7, 100):
            assert sharded.search(CODES[:4, :, :4], k) == index.search(CODES[:4, :, :4], k)
    finally:
        sharded.close()


def test_more_shards_than_documents(cluster, tmp_path):
    index = Index.from_vectors(tmp_path / "two", np.eye(2, dtype=np.float32))
    sharded = ShardedIndex.on(cluster, index.path, shards=4, threads=1)
    try:
        assert sharded.search(np.eye(2), 5) == index.search(np.eye(2), 5)
    finally:
        sharded.close()


def test_fast_answers_are_bounded(spread, index):
    sharded = spread(2)
    truth = index.search(CODES, len(index))
    for answer, exact in zip(sharded.search(CODES, 5, mode="fast", share=0.2), truth, strict=True):
        assert answer.looked_at < len(index)
        found = {hit.id for hit in answer}
        missed = max(hit.score for hit in exact if hit.id not in found)
        assert missed <= answer.bound
        if answer.certified:
            assert answer.hits == exact.hits[:5]


def test_changes_are_seen_whole(spread, index, documents, model):
    sharded = spread(3)
    before = sharded.search(CODES, 10)
    added = sharded.add([{"id": "new", "text": "amber amber amber"}, {"id": "d9", "text": "north north"}])
    assert (added.added, added.replaced) == (1, 1)
    assert sharded.delete(["d10"]) == 1
    index.refresh()
    assert sharded.search(CODES, 10) == index.search(CODES, 10) != before
    index.compact()  # by another process: the layout that the shards hold is removed
    kill(sharded, 1)
    assert [answer.hits for answer in sharded.search(CODES, 10)] == [answer.hits for answer in index.search(CODES, 10)]
    sharded.refresh()
    assert sharded.version == index.version
    assert sharded.search(CODES, 10) == index.search(CODES, 10)


def test_a_lost_shard_is_restored_and_no_answer_is_wrong(spread, index):
    index.refresh()
    sharded = spread(3)
    truth = index.search(CODES, 10)
    wrong, asked, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            wrong.extend(answer for answer in [sharded.search(CODES, 10)] if answer != truth)
            asked.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for part in (0, 2):
            time.sleep(0.3)
            kill(sharded, part)
            number = len(asked)
            while len(asked) < number + 3:
                assert asking.is_alive()
                time.sleep(0.02)
    finally:
        stop.set()
        asking.join()
    assert not wrong


def test_a_replica_answers_for_a_lost_one(spread, index):
    index.refresh()
    sharded = spread(2, replicas=2, patience=20)
    truth = index.search(CODES, 10)
    ray.kill(sharded.shards.replicas[1][0])  # for good
    for _ in range(4):
        assert sharded.search(CODES, 10) == truth


def test_without_a_shard_an_answer_is_refused_or_says_that_it_is_partial(spread, index):
    index.refresh()
    sharded = spread(3, patience=1.5)
    assert sharded.search(CODES[:1], 700)[0].certified
    lost = {hit.id for hit in index.search(CODES[:1], 700)[0]}
    ray.kill(sharded.shards.replicas[1][0])  # for good
    with pytest.raises(ClusterError, match=r"1 of 3 shards did not answer within 1\.5 s \(number 1\)"):
        sharded.search(CODES, 10)
    sharded.partial = True
    (answer,) = sharded.search(CODES[:1], 700)
    assert isinstance(answer, PartialAnswer)
    assert (answer.certified, answer.error) == (False, float("inf"))
    assert answer.looked_at + answer.not_looked_at == len(index)
    assert len(lost - {hit.id for hit in answer}) == answer.not_looked_at > 0


def test_answers_of_different_versions_are_not_merged(spread, index, monkeypatch):
    sharded = spread(2)
    part = sharded.shards.ask("search", sharded.snapshot.view, CODES, 3, 1.0, None, None, 0)
    other = part[0]._replace(view=part[0].view._replace(version=1))
    monkeypatch.setattr(sharded.shards, "ask", lambda *arguments: [other, part[1]])
    with pytest.raises(IndexingError, match="a shard searched"):
        sharded.search(CODES, 3)


def test_a_document_that_no_shard_holds_is_noticed(spread, monkeypatch):
    sharded = spread(2)
    ask = sharded.shards.ask
    monkeypatch.setattr(
        sharded.shards,
        "ask",
        lambda *arguments, **settings: [one._replace(documents=one.documents - 1) for one in ask(*arguments)],
    )
    with pytest.raises(IndexingError, match="documents of version"):
        len(sharded)


def test_what_is_wrong_is_said_as_on_one_machine(spread, cluster, index):
    sharded = spread(2)
    with pytest.raises(IndexingError, match="the filter 'nonsense >' cannot be used"):
        sharded.search(CODES, 3, "nonsense >")
    with pytest.raises(ClusterError, match="want 99 processors, and the cluster has 6"):
        ShardedIndex.on(cluster, index.path, shards=99, threads=1)
    with pytest.raises(ValueError, match="shards must be"):
        ShardedIndex.on(cluster, index.path, shards=0)


def test_a_shard_begins_with_nothing_and_finds_all_in_storage(index):
    index.refresh()
    view = View.of(index._writer)
    shards = [Shard(str(index.path), part, 5, 1) for part in range(5)]
    assert sum(shard.load(view).documents for shard in shards) == len(index)
    ids = [
        record[0]
        for shard in shards
        for record in shard.search(view, CODES[:1], 1_000, 1.0, None, None, 0).records.values()
    ]
    assert sorted(ids) == sorted(hit.id for hit in index.search(CODES[:1], 1_000)[0])
