"""Arrays on disk by content: whole shards or none."""

import pytest
import torch

from polyencoders.errors import TrainingError
from polyencoders.training import output_store
from polyencoders.training.output_store import OutputStore

A, B, C = (bytes([i] * 16) for i in range(3))


def array(rows, value):
    return torch.full((rows, 4), value, dtype=torch.float16)


def test_what_was_added_is_found_here_and_by_the_next(tmp_path):
    store = OutputStore(tmp_path / "new" / "store")
    store.add({A: array(3, 1), B: array(1, 2)})
    store.add({C: array(2, 3)})
    for opened in (store, OutputStore(tmp_path / "new" / "store")):
        assert torch.equal(opened[A], array(3, 1))
        assert torch.equal(opened[B], array(1, 2))
        assert torch.equal(opened[C], array(2, 3))
        assert A in opened
        assert bytes([9] * 16) not in opened
        assert opened.size() > 48


def test_nothing_is_made_before_something_is_added(tmp_path):
    assert A not in OutputStore(tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("left", [0, 4, 100, -8])
def test_a_damaged_shard_is_named(left, tmp_path):
    OutputStore(tmp_path).add({A: array(3, 1)})
    [shard] = tmp_path.iterdir()
    shard.write_bytes(shard.read_bytes()[:left])
    with pytest.raises(TrainingError, match=f"{shard} is damaged .*: delete it") as error:
        OutputStore(tmp_path)
    assert "\n" not in str(error.value)


def test_an_interrupted_write_leaves_no_shard(tmp_path, monkeypatch):
    store = OutputStore(tmp_path)

    def full(tensors, path):
        path.write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_store, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        store.add({A: array(3, 1)})
    assert list(tmp_path.iterdir()) == []
    assert A not in store


def test_two_may_add_to_one_folder(tmp_path):
    first, second = OutputStore(tmp_path), OutputStore(tmp_path)
    first.add({A: array(1, 1)})
    second.add({A: array(1, 1), B: array(1, 2)})
    assert {A, B} <= {key for key in (A, B, C) if key in OutputStore(tmp_path)}


def test_outputs_are_kept_while_others_compute_in_bf16(tmp_path):
    store = OutputStore(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        store.add({A: array(3, 1), B: array(2, 2)})
    assert torch.equal(store[A], array(3, 1))
    assert torch.equal(store[B], array(2, 2))
