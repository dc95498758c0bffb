"""An index cut into shares is the index: hits, certificates, bounds, exact and fast, to the last bit. Without Ray."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyencoders.distributed import replicas
from polyencoders.distributed.replicas import Shards
from polyencoders.distributed.shard import Shard
from polyencoders.errors import IndexingError
from polyencoders.index import Index
from polyencoders.index.searching import Wanted
from polyencoders.index.slices import View

CODES = np.random.default_rng(1).normal(size=(9, 3, 16))
TEXTS = [f"birch {word} {number}" for number, word in enumerate(["amber", "cedar", "replaced"] * 3)]
FILTERS = (None, "year > 1950 AND odd", "odd", "year = 5000", "id = 'd8'")


@pytest.fixture(scope="module")
def spread(index, in_process):
    """The index over other numbers of shards, by number."""
    return {parts: in_process(index.path, parts) for parts in (1, 2, 3, 7)}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.sampled_from([1, 2, 3, 7]),
    k=st.sampled_from([1, 3, 10, 100, 700]),
    where=st.sampled_from(FILTERS),
    share=st.sampled_from([None, "default", 0.001, 0.05, 0.2, 0.5, 1.0]),
    temperature=st.sampled_from([0.05, 1.0, 20.0]),
    first=st.integers(0, 8),
    words=st.sampled_from([None, 0.4, 50.0]),
)
def test_answers_are_those_of_one_machine(index, spread, parts, k, where, share, temperature, first, words):
    how = {"words": words, "texts": TEXTS[first:], "temperature": temperature}
    mode = {"mode": "fast", "share": None if share == "default" else share} if share is not None else {}
    asked = np.array(CODES[first:])
    asked[0] *= first % 3  # all codes absent, now and then
    expected = index.search(asked, k, where, **how, **mode)
    assert spread[parts].search(asked, k, where, **how, **mode) == expected


def test_fast_search_left_something_out(index, spread):
    looked_at = [answer.looked_at for answer in spread[3].search(CODES, 5, mode="fast", share=0.05)]
    assert max(looked_at) < len(index) / 2
    near = np.stack(list(index.vectors([f"d{i}" for i in range(100, 140)]).values()))
    answers = spread[3].search(near, 1, mode="fast", share=0.5)
    assert answers == index.search(near, 1, mode="fast", share=0.5)
    assert {answer.certified for answer in answers} >= {True}


def test_many_queries_are_put_a_few_at_a_time(index, spread, monkeypatch):
    asked = []
    ask = spread[2].shards.ask
    monkeypatch.setattr(
        spread[2].shards, "ask", lambda *how, **more: asked.append(how[2].shape[0]) or ask(*how, **more)
    )
    many = np.tile(CODES, (8, 1, 1)) * np.arange(1, 73)[:, None, None] / 20
    assert spread[2].search(many, 4) == index.search(many, 4)
    assert asked == [32, 32, 8]
    monkeypatch.undo()
    words = {"words": True, "texts": TEXTS * 8}
    assert spread[2].search(many, 4, **words) == index.search(many, 4, **words)


@pytest.mark.parametrize("share", [None, 0.1, 0.4])
def test_ties_are_broken_as_on_one_machine(in_process, tmp_path, share):
    vectors = np.tile(np.eye(4, dtype=np.float32), (90, 1))  # ninety documents score the same, tiles are alike
    index = Index.from_vectors(tmp_path / "ties", vectors)
    sharded = in_process(index.path, 3)
    mode = {"mode": "fast", "share": share} if share else {}
    for k in (1, 7, 100):
        assert sharded.search(CODES[:4, :, :4], k, **mode) == index.search(CODES[:4, :, :4], k, **mode)


def test_more_shards_than_documents(in_process, tmp_path):
    index = Index.from_vectors(tmp_path / "two", np.eye(2, dtype=np.float32))
    assert in_process(index.path, 4).search(np.eye(2), 5) == index.search(np.eye(2), 5)


def test_changes_are_seen_whole(in_process, changing, model):
    sharded = in_process(changing.path, 3, model)
    before = sharded.search(CODES, 10)
    added = sharded.add([{"id": "new", "text": "amber amber amber"}, {"id": "d9", "text": "north north"}])
    assert (added.added, added.replaced) == (1, 1)
    assert sharded.delete(["d10"]) == 1
    changing.refresh()
    assert sharded.search(CODES, 10) == changing.search(CODES, 10) != before
    changing.compact()  # by another process: the layout that the shards hold is removed
    for (shard,) in sharded.shards.replicas:
        shard._slices.clear()  # as one that was started again
    assert [one.hits for one in sharded.search(CODES, 10)] == [one.hits for one in changing.search(CODES, 10)]
    sharded.refresh()
    assert sharded.version == changing.version
    assert sharded.search(CODES, 10, mode="fast", share=0.1) == changing.search(CODES, 10, mode="fast", share=0.1)


def test_shards_find_their_shares_in_object_storage(place, in_process, made, model, documents):
    index = made(place, model, documents)
    sharded = in_process(place, 3)
    assert sharded.search(CODES, 10) == index.search(CODES, 10)
    assert sharded.search(CODES, 10, mode="fast", share=0.1) == index.search(CODES, 10, mode="fast", share=0.1)


def test_answers_of_different_versions_are_not_merged(index, in_process, monkeypatch):
    sharded = in_process(index.path, 2)
    part = sharded.shards.ask("search", sharded.snapshot.view, CODES, Wanted(3, 1.0))
    other = part[0]._replace(view=part[0].view._replace(version=1))
    monkeypatch.setattr(sharded.shards, "ask", lambda *arguments: [other, part[1]])
    with pytest.raises(IndexingError, match="a shard searched"):
        sharded.search(CODES, 3)


def test_a_document_that_no_shard_holds_is_noticed(index, in_process, monkeypatch):
    sharded = in_process(index.path, 2)
    ask = sharded.shards.ask
    monkeypatch.setattr(
        sharded.shards,
        "ask",
        lambda *arguments, **settings: [one._replace(documents=one.documents - 1) for one in ask(*arguments)],
    )
    with pytest.raises(IndexingError, match="documents of version"):
        len(sharded)


def test_what_is_wrong_is_said_as_on_one_machine(index, in_process):
    with pytest.raises(IndexingError, match="the filter 'nonsense >' cannot be used"):
        in_process(index.path, 2).search(CODES, 3, "nonsense >")
    with pytest.raises(ValueError, match="shards must be"):
        type(in_process(index.path, 1)).on("nowhere", index.path, shards=0)


def test_a_shard_begins_with_nothing_and_finds_all_in_storage(index):
    view = View.of(index._writer)
    shards = [Shard(str(index.path), None, part, 5, 1) for part in range(5)]
    assert sum(shard.load(view).documents for shard in shards) == len(index)
    ids = [
        record[0] for shard in shards for record in shard.search(view, CODES[:1], Wanted(1_000, 1.0)).records.values()
    ]
    assert sorted(ids) == sorted(hit.id for hit in index.search(CODES[:1], 1_000)[0])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "203.0.113.1:99999"])
def test_an_address_where_there_is_no_cluster_is_told_at_once(run_python, tmp_path, address):
    code = (
        "import os, sys; from polyencoders.distributed import connect; from polyencoders.errors import ClusterError\n"
    )
    code += "os.environ['RAY_TMPDIR'] = sys.argv[2]; os.environ.pop('RAY_ADDRESS', None)\n"
    code += "try: connect(sys.argv[1])\nexcept ClusterError as error: print(error)"
    assert f"no Ray cluster at '{address}'" in run_python(code, address, tmp_path)


def test_a_shard_needs_no_model(run_python):
    code = "import sys, polyencoders.distributed.shard; print({'torch', 'transformers', 'ray'} & set(sys.modules))"
    assert run_python(code).strip() == "set()"  # it is started again in a moment


def test_a_view_that_is_held_is_searched_while_another_is_loaded(index, monkeypatch):
    view = View.of(index._writer)
    shard = Shard(str(index.path), None, 0, 1, 1)
    shard.load(view)
    begun, goes_on, read, reads = threading.Event(), threading.Event(), shard._read, []

    def slow(asked):
        reads.append(asked)
        begun.set()
        assert goes_on.wait(60)
        return read(view)

    monkeypatch.setattr(shard, "_read", slow)
    newer = view._replace(version=view.version + 1)
    with ThreadPoolExecutor(3) as others:
        loading = [others.submit(shard.load, newer) for _ in range(2)]
        assert begun.wait(60)
        found = others.submit(shard.search, view, CODES[:1], Wanted(3, 1.0))
        try:
            assert found.result(60).view == view
        finally:
            goes_on.set()
        assert {one.result(60).documents for one in loading} == {len(index)}
    assert reads == [newer], "it is loaded once"


class Silent:
    """A replica that is called, and does not answer; remembers its calls."""

    def __init__(self):
        self.calls, self.load = [], SimpleNamespace(remote=self._call)

    def _call(self, *arguments):
        self.calls.append(object())
        return self.calls[-1]


def test_a_slow_call_is_sent_to_each_other_replica_once(monkeypatch):
    actors = [Silent() for _ in range(3)]
    rounds = []

    def wait(references, num_returns, timeout):
        rounds.append([len(actor.calls) for actor in actors])
        return ([], references) if len(rounds) < 8 else (references[:1], references[1:])

    monkeypatch.setattr(
        replicas,
        "the_ray",
        lambda: SimpleNamespace(wait=wait, get=lambda reference: "answer", exceptions=ray.exceptions),
    )
    assert Shards([actors], patience=60.0).ask("load") == ["answer"]
    assert [sum(calls) for calls in rounds] == [1, 2, 3, 3, 3, 3, 3, 3]
    assert rounds[-1] == [1, 1, 1]
