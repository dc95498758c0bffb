"""A small index to spread, over shards in this process and over a real Ray cluster of two nodes on this machine."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ray", reason="needs polyencoders[ray]")

import ray
from ray.cluster_utils import Cluster

from polyencoders import PolyEncoder
from polyencoders.distributed import ShardedIndex, connect
from polyencoders.distributed.replicas import Shards
from polyencoders.distributed.shard import Shard
from polyencoders.index import Index

LOOPBACK = "127.0.0.2"
"""Not 127.0.0.1, for which Ray takes the address that other machines use, so that it would be open to them."""
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "lagoon", "meadow", "north", "ocean"]


@pytest.fixture(scope="session")
def cluster():
    """The address of a cluster of two nodes, with four processors and two; they are told of, not counted."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,  # short: sockets
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_enable_worker_prestart", "0")  # processes that nobody asked for take seconds each to start
        patch.setenv("RAY_worker_niceness", "0")  # by default anything else on the machine goes before them
        (Path(folder) / "ray").mkdir()  # where the cluster leaves its address, beside what `temp_dir` says
        node = {"num_gpus": 0, "object_store_memory": 80_000_000, "temp_dir": folder, "node_ip_address": LOOPBACK}
        nodes = Cluster()
        try:
            nodes.add_node(num_cpus=4, include_dashboard=False, include_log_monitor=False, **node)
            nodes.add_node(num_cpus=2, **node)
            connect(nodes.address)
            yield nodes.address
        finally:
            ray.shutdown()
            nodes.shutdown()


class InProcess(Shards):
    """Shards in this process, without Ray: what they are asked and say, and nothing of how it is carried."""

    def __init__(self, path, parts):
        super().__init__([[Shard(str(path), None, part, parts, 1)] for part in range(parts)], 1.0)

    def tell(self, method, *arguments):
        pass

    def ask(self, method, *arguments, patience=None):
        return [getattr(shard, method)(*arguments) for (shard,) in self.replicas]

    def close(self):
        pass


@pytest.fixture(scope="session")
def in_process():
    """Open an index over so many shards in this process."""

    def opened(path, parts, model=None):
        return ShardedIndex.on(InProcess(path, parts), path, model)

    return opened


@pytest.fixture(scope="session")
def model(tiny_backbone, tmp_path_factory):
    """Where a tiny poly-encoder lies."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "poly"
    PolyEncoder(tiny_backbone, m=3).save_pretrained(str(path))
    return str(path)


@pytest.fixture(scope="session")
def documents():
    """Several hundred distinct documents with metadata."""
    generator = np.random.default_rng(0)
    return [
        {
            "id": f"d{i}",
            "text": f"{' '.join(generator.choice(WORDS, 4))} {i}",
            "year": 1900 + i % 100,
            "odd": bool(i % 2),
        }
        for i in range(600)
    ]


@contextlib.contextmanager
def small_indexes():
    """From 200 documents there is a layout, and fast search leaves out what it can."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", 200)
        monkeypatch.setattr("polyencoders.index.searching.LEAST", 32)
        monkeypatch.setattr("polyencoders.index.neighbourhoods.DOCUMENTS_IN_A_CLUSTER", 100)
        yield


@pytest.fixture(scope="module", autouse=True)
def small():
    """In the tests of this folder alone, while some of what they use lives as long as all tests."""
    with small_indexes():
        yield


@pytest.fixture(scope="session")
def made():
    """Make an index with a layout, documents beside it, some replaced and some deleted."""

    @small_indexes()
    def make(path, model, documents):
        index = Index.create(path, model)
        index.add(documents[:500])
        index.add(documents[500:])
        index.add([{**documents[7], "text": "replaced by other words"}, {**documents[508], "year": 5}])
        index.delete(["d3", "d77", "d599"])
        assert 0 < index.info().laid_out < len(index)
        return index

    return make


@pytest.fixture(scope="session")
def index(made, model, documents, tmp_path_factory):
    """An index that no test changes."""
    return made(tmp_path_factory.mktemp("kept") / "index", model, documents)


@pytest.fixture
def changing(made, model, documents, tmp_path):
    """The same, for a test that changes it."""
    return made(tmp_path / "index", model, documents)
