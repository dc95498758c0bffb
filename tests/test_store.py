"""Arrays by content: whole or not at all, for several processes, and never misread."""

import logging
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest

from polyencoders.store import Store, in_cache

ARRAYS = [np.ones((3, 4), np.float16), np.float32(0.25), np.zeros((0, 2)), np.arange(5, dtype=np.int8)]


@pytest.fixture(params=["delete", "wal"])
def opened(request, tmp_path):
    return lambda fingerprint="00": Store(tmp_path / "arrays.sqlite", fingerprint, request.param)


def same(array, other):
    return array.dtype == other.dtype and array.shape == other.shape and np.array_equal(array, other)


def test_what_was_put_is_found_here_and_by_the_next(opened):
    store = opened()
    keys = [store.key(str(number)) for number in range(len(ARRAYS))]
    store.put(dict(zip(keys, ARRAYS, strict=True)))
    for reader in (store, opened()):
        found = reader.get([*keys, store.key("never")])
        assert [same(found[key], array) for key, array in zip(keys, ARRAYS, strict=True)] == [True] * 4
        assert len(found) == 4
        assert reader.has([*keys, store.key("never")]) == set(keys)
    assert store.get([]) == {}
    store.put({keys[0]: ARRAYS[1]})
    assert same(opened().get(keys)[keys[0]], ARRAYS[1])


def test_keys_depend_on_fingerprint_and_texts(opened):
    store = opened()
    keys = {store.key("ab"), store.key("a", "b"), store.key("", "ab"), store.key("ba"), opened("01").key("ab")}
    assert len(keys) == 5
    assert len(store.key("\ud800")) == 16
    assert store.key("ab") == opened().key("ab")


def test_more_keys_than_fit_in_one_question(opened):
    store = opened()
    store.put({store.key(str(number)): np.float32(number) for number in range(1300)})
    found = store.get(store.key(str(number)) for number in range(1400))
    assert sorted(map(float, found.values())) == list(range(1300))


def test_every_flipped_byte_is_a_missing_array_and_never_another(opened, caplog):
    store = opened()
    key = store.key("tea")
    store.put({key: ARRAYS[0]})
    row = store._base.execute("SELECT type, shape, content FROM arrays").fetchone()
    columns = dict(zip(("type", "shape", "content"), row, strict=True))
    for column, value in columns.items():
        wrong = value + b"\0" if column == "content" else "<f8" if column == "type" else "4 3"
        for bad in (wrong, None, 3):
            store._base.execute(f"UPDATE arrays SET {column} = ?", (bad,))
            assert store.get([key]) == {}
        store._base.execute(f"UPDATE arrays SET {column} = ?", (value,))
        assert same(store.get([key])[key], ARRAYS[0])
    assert "an array is damaged" in caplog.text


@pytest.mark.parametrize("left", [0, 4, 100, 5000, -100])
def test_a_damaged_file_is_as_good_as_empty(left, tmp_path):
    store = Store(tmp_path / "arrays.sqlite", "00")
    keys = [store.key(str(number)) for number in range(200)]
    store.put(dict.fromkeys(keys, ARRAYS[0]))
    store.close()
    store.path.write_bytes(store.path.read_bytes()[:left])
    damaged = Store(tmp_path / "arrays.sqlite", "00")
    assert all(same(array, ARRAYS[0]) for array in damaged.get(keys).values())
    damaged.put({keys[0]: ARRAYS[0]})
    damaged.has(keys)
    damaged.close()


def test_what_cannot_be_used_is_empty_and_says_so(tmp_path):
    (tmp_path / "novel.txt").write_text("Call me Ishmael. " * 1000)
    for path in (tmp_path / "novel.txt", tmp_path / "nowhere" / "arrays.sqlite"):
        store = Store(path, "00")
        assert isinstance(store.error, sqlite3.Error)
        key = store.key("tea")
        store.put({key: ARRAYS[0]})
        assert store.get([key]) == {}
        assert store.has([key]) == set()
        store.close()
    assert (tmp_path / "novel.txt").read_text().startswith("Call me")


def test_a_full_disk_costs_only_what_was_to_be_kept(opened, caplog):
    store = opened()
    first, second = store.key("first"), store.key("second")
    store.put({first: ARRAYS[0]})
    store._base.execute("PRAGMA max_page_count = 10")
    store.put({second: ARRAYS[0], store.key("large"): np.zeros(1_000_000)})
    assert "could not be kept" in caplog.text
    assert set(store.get([first, second])) == {first}


WRITER = """
import sys
import numpy as np
from polyencoders.store import Store
store = Store(sys.argv[1], "00")
for number in range(40):
    store.put({store.key(str(number), part): np.full(1000, number) for part in "ab"})
    print(number, flush=True)
"""


def test_processes_write_to_one_file_and_a_killed_one_leaves_whole_transactions(tmp_path, caplog):
    path = tmp_path / "arrays.sqlite"
    both = [subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for _ in range(5):
        both[0].stdout.readline()
    both[0].kill()
    both[0].wait()
    with caplog.at_level(logging.WARNING):
        store = Store(path, "00")
        assert both[1].wait(60) == 0
        for number in range(40):
            found = store.get([store.key(str(number), part) for part in "ab"])
            assert len(found) == 2
            assert all(same(array, np.full(1000, number)) for array in found.values())
    assert caplog.text == ""
    for process in both:
        process.stdout.close()


def test_threads_share_a_store(opened):
    store = opened()
    wrong = []

    def use(seed):
        for number in range(50):
            key = store.key(str(number % 7))
            store.put({key: np.int64(number % 7)})
            if int(store.get([key])[key]) != number % 7:
                wrong.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_without_a_file_there_are_keys_alone(tmp_path):
    store = Store(None, "00")
    store.put({store.key("tea"): ARRAYS[0]})
    assert store.get([store.key("tea")]) == {}
    assert store.key("tea") == Store(tmp_path / "arrays.sqlite", "00").key("tea")
    store.close()


def test_the_cache_folder_is_made(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / "cache"))
    store = in_cache("outputs", "0a")
    store.put({store.key("tea"): ARRAYS[0]})
    assert store.path == tmp_path / "cache" / "outputs" / "0a.sqlite"
    assert in_cache("outputs", "0a", tmp_path / "other").has([store.key("tea")]) == set()
    store.close()
    store.path.write_text("Call me Ishmael. " * 1000)
    assert in_cache("outputs", "0a").error is not None
    assert "0a.sqlite: arrays cannot be kept there" in caplog.text
