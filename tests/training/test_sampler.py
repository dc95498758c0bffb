"""Batches depend on the seed and the epoch, and on nothing else."""

import pytest
from datasets import Dataset

from polyencoders.training.trainer import EpochSeededSampler

ROWS = Dataset.from_dict({"query": [str(i) for i in range(23)]})


def sampler(seed=0, drop_last=True):
    return EpochSeededSampler(ROWS, batch_size=5, drop_last=drop_last, seed=seed)


@pytest.mark.parametrize("drop_last", [True, False])
def test_every_row_once_an_epoch(drop_last):
    batches = list(sampler(drop_last=drop_last))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5] + [3] * (not drop_last)
    assert len(batches) == len(sampler(drop_last=drop_last))
    rows = [row for batch in batches for row in batch]
    assert len(set(rows)) == len(rows)
    assert rows != sorted(rows)


def test_the_seed_and_the_epoch_decide():
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (0, 2), (7, 0)):
        these = sampler(seed)
        these.set_epoch(epoch)
        orders[seed, epoch] = str(list(these))
    assert len(set(orders.values())) == 4
    late = sampler()
    list(late)
    late.set_epoch(2)
    assert str(list(late)) == orders[0, 2], "not what was drawn before"
