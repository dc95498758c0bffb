"""What a server takes: a small version of `benchmarks/serving_attacks.py`, which says what each part does.

Each part starts a server of its own through the command line.
"""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs polyencoders[serve]")
pytest.importorskip("lancedb", reason="needs polyencoders[index]")
psutil = pytest.importorskip("psutil")
pytest.importorskip("resource", reason="kills and forks are those of POSIX")


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark; its processes import it by the same path."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("serving_attacks")
    sys.path.remove(folder)


@pytest.fixture
def stage(benchmark, models, tmp_path):
    """The tiny poly-encoder, and forked servers."""
    return benchmark.Stage(tmp_path, models / "poly", quick=True)


def test_malformed_requests(benchmark, stage):
    counts = benchmark.malformed(stage, seed=11, quick=True, number=600)
    assert counts["problems"] == []
    assert counts["statuses"]["422"] > 100, "most go wrong where it is looked at what they say"
    assert counts["statuses"]["400"] > 50


def test_what_a_server_must_not_say_is_seen(benchmark):
    wrong_with = benchmark.attacks.wrong_with
    assert wrong_with(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
    assert wrong_with(b'HTTP/1.1 422 x\r\n\r\n{"error": "/home/me/index: no"}')
    assert wrong_with(b"HTTP/1.1 200 OK\r\n\r\nTraceback (most recent call last)")
    assert wrong_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n")
    assert not wrong_with(b'HTTP/1.1 422 x\r\n\r\n{"error": "no"}')


def test_what_is_documented(benchmark, stage):
    pytest.importorskip("schemathesis")
    counts = benchmark.documented(stage, seed=1, quick=True)
    assert counts["problems"] == []
    assert counts["cases"] > 100


def test_large_bodies(benchmark, stage):
    counts = benchmark.large(stage, seed=1, quick=True, size=100_000_000)
    assert counts["problems"] == []


def test_loaded_again_and_stopped_while_it_is_asked(benchmark, stage):
    counts = benchmark.stops(stage, seed=1, quick=True, rounds=2)
    assert counts["problems"] == []
    assert counts["answered while it was loaded again"] > 20
    assert counts["told twice"] == 1


def test_kills_lose_nothing(benchmark, stage):
    counts = benchmark.kills(stage, seed=1, quick=True, rounds=3)
    assert counts["problems"] == []
    assert counts["acknowledged changes"] >= 6
    assert counts["documents looked at"] > 20


def test_a_crowd(benchmark, stage):
    counts = benchmark.crowd(stage, seed=1, quick=True, number=80)
    assert counts["problems"] in ([], ["it was not too much, or all was refused"])  # so small a model is quick
    assert counts["answered 200"] + counts["answered 429"] == 80
