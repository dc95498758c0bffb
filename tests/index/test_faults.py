"""An index loses nothing: a small version of `benchmarks/faults.py`, which says what each part does."""

import importlib
import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("lancedb")
pytest.importorskip("resource", reason="kills and file limits are those of POSIX")


@pytest.fixture(scope="module")
def faults():
    """The benchmark; its processes import it by the same path."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("faults")
    sys.path.remove(folder)


def test_a_killed_writer_loses_nothing(faults, tmp_path):
    counts = faults.kills(tmp_path, random.Random(1), quick=True, runs=2)
    assert counts["problems"] == []
    assert counts["operations begun"] >= 2


def test_writers_and_readers_at_once_see_whole_batches(faults, tmp_path):
    counts = faults.crowd(tmp_path, random.Random(2), seconds=3)
    assert counts["problems"] == []
    assert counts["operations"] > 0
    assert counts["searches"] > 0


def test_every_damaged_file_is_named(faults, tmp_path):
    counts = faults.damage(tmp_path, random.Random(3), quick=True)
    assert counts["problems"] == []
    assert counts["flipped, named"] == counts["flipped"] > 30


def test_a_full_disk_loses_nothing(faults, tmp_path):
    counts = faults.full(tmp_path, random.Random(4), rounds=1)
    assert counts["problems"] == []
    assert counts["errors that say so"] == 1


def test_without_a_disk_of_its_own_files_are_limited(faults, tmp_path, monkeypatch):
    monkeypatch.setattr(faults.os, "geteuid", lambda: 1)
    counts = faults.full(tmp_path, random.Random(5), rounds=1)
    assert counts["problems"] == []
    assert counts["how"].startswith("RLIMIT")
