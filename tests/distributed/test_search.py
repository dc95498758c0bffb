"""Search over shards on a real cluster is search on one machine; a lost shard is no lie."""

import json
import threading

import numpy as np
import pytest
import ray

from polyencoders.cli import main
from polyencoders.distributed import PartialAnswer, ShardedIndex
from polyencoders.errors import ClusterError

CODES = np.random.default_rng(1).normal(size=(25, 3, 16))


@pytest.fixture(scope="module")
def sharded(cluster, index, model):
    """The index over two shards with two replicas each, once for all tests, which end some of them."""
    opened = ShardedIndex.on(cluster, index.path, model, shards=2, replicas=2, threads=1)
    yield opened
    opened.close()


def test_the_command_searches_on_a_cluster(cluster, index, monkeypatch, capfd):
    arguments = ["search", str(index.path), "--query", "amber cedar", "-k", "3", "--json"]
    monkeypatch.setattr("sys.argv", ["polyencoders", *arguments, "--ray", cluster, "--shards", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(hit["id"], hit["score"]) for hit in printed] == [hit[:2] for hit in index.search("amber cedar", 3)]


def test_hits_certificates_and_bounds_are_those_of_one_machine(sharded, index):
    assert (len(sharded), sharded.version, sharded.info()) == (len(index), index.version, index.info())
    for k in (1, 10, 700):
        assert sharded.search(CODES, k) == index.search(CODES, k)
        assert sharded.search(CODES, k, mode="fast", share=0.1) == index.search(CODES, k, mode="fast", share=0.1)
    assert sharded.search(CODES, 5, "year > 1950 AND odd") == index.search(CODES, 5, "year > 1950 AND odd")
    for where in (None, "odd", "year > 2000", "year = 1951"):
        for asked in ({"k": 3, "share": 0.001}, {"k": 20, "share": 0.05}):
            fast = {"where": where, "mode": "fast", **asked}
            assert sharded.search(CODES, **fast) == index.search(CODES, **fast)
    assert sharded.search("amber cedar", 3) == index.search("amber cedar", 3)
    assert sharded.get(["d7", "d3", "d8"]) == index.get(["d7", "d3", "d8"])


def test_a_lost_shard_is_restored_and_no_answer_is_wrong(sharded, index):
    truth = index.search(CODES, 10)
    wrong, asked, stop = [], [], threading.Event()
    answered = threading.Condition()

    def ask():
        while not stop.is_set():
            wrong.extend(answer for answer in [sharded.search(CODES, 10)] if answer != truth)
            with answered:
                asked.append(sharded.whole)
                answered.notify()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with answered:
            assert answered.wait_for(lambda: len(asked) > 1, 60)
            for actor in sharded.shards.replicas[0]:
                ray.kill(actor, no_restart=False)  # as a machine that fails would
            number = len(asked)
            assert answered.wait_for(lambda: len(asked) > number + 2, 60)
    finally:
        stop.set()
        asking.join()
    assert not wrong
    assert asked[-1]


def test_a_replica_answers_for_a_lost_one(sharded, index):
    truth = index.search(CODES, 10)
    ray.kill(sharded.shards.replicas[1][0])  # for good
    for _ in range(4):
        assert sharded.search(CODES, 10) == truth
    assert sharded.whole


def test_without_a_shard_an_answer_is_refused_or_says_that_it_is_partial(sharded, index, monkeypatch):
    everything = {hit.id for hit in index.search(CODES[:1], 700)[0]}
    assert sharded.search(CODES[:1], 700)[0].certified
    for actor in sharded.shards.replicas[1]:
        ray.kill(actor)  # for good: this is the last test with these shards
    monkeypatch.setattr(sharded.shards, "patience", 1.0)
    for mode in ("exact", "fast"):
        with pytest.raises(ClusterError, match=r"1 of 2 shards did not answer within 1 s \(number 1\)"):
            sharded.search(CODES, 10, mode=mode)
    assert not sharded.whole
    monkeypatch.setattr(sharded, "partial", True)
    for mode in ("exact", "fast"):
        (answer,) = sharded.search(CODES[:1], 700, mode=mode)
        assert isinstance(answer, PartialAnswer)
        assert (answer.certified, answer.error) == (False, float("inf"))
        assert answer.looked_at + answer.not_looked_at == len(index)
        assert len(everything - {hit.id for hit in answer}) == answer.not_looked_at > 0


def test_more_than_the_cluster_has_is_refused(cluster, index):
    with pytest.raises(ClusterError, match="want 99 processors, and the cluster has 6, 4 in its largest machine"):
        ShardedIndex.on(cluster, index.path, shards=99, threads=1)
    with pytest.raises(ClusterError, match="5 threads in each, want 5"):
        ShardedIndex.on(cluster, index.path, shards=1, threads=5)
