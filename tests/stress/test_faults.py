"""An index loses nothing: the short form of `faults.py`."""

import random

import pytest

pytest.importorskip("lancedb")
pytest.importorskip("resource", reason="kills and file limits are those of POSIX")

import full_disk
from damaged_files import damage
from killed_writers import kills
from many_processes import crowd


def test_a_killed_writer_loses_nothing(tmp_path):
    counts = kills(tmp_path, random.Random(1), quick=True, runs=2)
    assert counts["problems"] == []
    assert counts["operations begun"] >= 2


def test_writers_and_readers_at_once_see_whole_batches(tmp_path):
    counts = crowd(tmp_path, random.Random(2), seconds=3)
    assert counts["problems"] == []
    assert counts["operations"] > 0
    assert counts["searches"] > 0


def test_every_damaged_file_is_named(tmp_path):
    counts = damage(tmp_path, random.Random(3), quick=True)
    assert counts["problems"] == []
    assert counts["flipped, named"] == counts["flipped"] > 30


def test_a_full_disk_loses_nothing(tmp_path):
    counts = full_disk.full(tmp_path, random.Random(4), rounds=1)
    assert counts["problems"] == []
    assert counts["errors that say so"] == 1


def test_without_a_disk_of_its_own_files_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(full_disk.os, "geteuid", lambda: 1)
    counts = full_disk.full(tmp_path, random.Random(5), rounds=1)
    assert counts["problems"] == []
    assert counts["how"].startswith("RLIMIT")
