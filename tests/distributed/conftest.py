"""A real Ray cluster of two nodes on this machine, once for all tests, and a small index to spread over it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ray", reason="needs polyencoders[ray]")

import ray

from polyencoders import PolyEncoder
from polyencoders.distributed.cluster import connect
from polyencoders.index import Index

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "lagoon", "meadow", "north", "ocean"]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start_node(*arguments, folder):
    """A node as processes of their own; `ray start` waits with `--block`, so that its end is theirs."""
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"),
        *("--node-ip-address", "127.0.0.1", "--object-store-memory", "80000000", "--num-gpus", "0"),
        *("--include-log-monitor", "false", "--temp-dir", str(folder), *arguments),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """The address of a cluster of a head with four processors and a worker with two; they are told of, not counted."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        port = free_port()
        nodes = [
            start_node("--head", "--port", str(port), "--num-cpus", "4", "--include-dashboard", "false", folder=folder)
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
            patch.setenv("RAY_TMPDIR", folder)
            try:
                for _ in range(60):
                    with socket.socket() as probe:
                        probe.settimeout(1)
                        if probe.connect_ex(("127.0.0.1", port)) == 0:
                            break
                    time.sleep(0.5)
                nodes.append(start_node("--address", f"127.0.0.1:{port}", "--num-cpus", "2", folder=folder))
                connect(f"127.0.0.1:{port}")
                for _ in range(120):
                    if sum(node["Alive"] for node in ray.nodes()) == 2:
                        break
                    time.sleep(0.25)
                assert sum(node["Alive"] for node in ray.nodes()) == 2
                yield f"127.0.0.1:{port}"
            finally:
                ray.shutdown()
                for node in reversed(nodes):
                    node.terminate()
                for node in nodes:
                    try:
                        node.wait(20)
                    except subprocess.TimeoutExpired:
                        node.kill()


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


@pytest.fixture
def small(monkeypatch):
    """From 200 documents there is a layout, and fast search leaves out what it can."""
    monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", 200)
    monkeypatch.setattr("polyencoders.index.searching.LEAST", 32)
    monkeypatch.setattr("polyencoders.index.neighbourhoods.DOCUMENTS_IN_A_CLUSTER", 100)


@pytest.fixture
def index(small, model, documents, tmp_path):
    """An index with a layout, documents beside it, some replaced and some deleted."""
    made = Index.create(tmp_path / "index", model)
    made.add(documents[:500])
    made.add(documents[500:])
    made.add([{**documents[7], "text": "replaced by other words"}, {**documents[508], "year": 5}])
    made.delete(["d3", "d77", "d599"])
    assert 0 < made.info().laid_out < len(made)
    return made
