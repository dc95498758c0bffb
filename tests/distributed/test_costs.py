"""The model of what many machines cost: its parts by hand, and what must rise or fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.distributed.costs import HOURS_A_MONTH, Machine, Overheads, estimate

MACHINE = Machine(memory=10e9, scan_rate=1e9, product_rate=1e10, encode_rate=100, network_rate=1e8, price=2.0)
OVERHEADS = Overheads(encode=0.01, fan_out=0.001, per_shard=0.0001, search=0.02, request_bytes=1000, hit_bytes=100)
AT_ONCE = Overheads(encode=0, fan_out=0, per_shard=0, search=0, request_bytes=0, hit_bytes=0)


def test_by_hand():
    found = estimate(
        4e6, shards=4, replicas=2, dimension=100, codes=5, k=10, text_bytes=50, machine=MACHINE, overheads=OVERHEADS
    )
    assert found.documents_per_shard == 1_000_000
    assert found.memory_per_shard == 112e6
    assert found.disk == 4e6 * (800 + 112 + 100)
    assert found.machines == 8
    assert found.scan == pytest.approx(0.02 + 0.1)  # 100 MB at 1 GB/s; 500 M products take half of that
    assert found.network == 4 * (1000 + 2000 + 1000)
    assert found.overhead == pytest.approx(0.01 + 0.001 + 4 * 0.0001 + 16_000 / 1e8)
    assert found.queries_per_second == pytest.approx(2 / 0.12)
    assert found.encoding == pytest.approx(4e6 / 800)
    assert found.dollars_to_encode == pytest.approx(5000 / 3600 * 16)
    assert found.dollars_a_month == 16 * HOURS_A_MONTH
    assert found.dollars_a_million_queries == pytest.approx(60_000 / 3600 * 16)


def test_many_codes_are_bound_by_products_and_a_share_by_the_centres_too():
    few, many = (estimate(1e6, shards=1, codes=codes, machine=MACHINE, overheads=AT_ONCE) for codes in (10, 40))
    assert few.scan == pytest.approx(0.384)
    assert many.scan == pytest.approx(4 * few.scan)
    fast = estimate(1e6, shards=2, share=0.07, machine=MACHINE, overheads=AT_ONCE)
    assert fast.scan == pytest.approx((0.07 + 1 / 32) * 0.192)
    # Of both shards the codes twice, and 4 bytes for each of the 7% of 31,250 tiles, all of which one shard may have.
    assert fast.network == pytest.approx(2 * (2 * 4 * 4 * 384 + 4 * 0.07 * 1e6 / 32))


@given(st.integers(1, 10**11), st.integers(1, 2048))
def test_as_many_shards_as_memory_asks_for(documents, dimension):
    found = estimate(documents, dimension=dimension, machine=MACHINE)
    assert found.fits
    if found.machines > 1:
        assert not estimate(documents, dimension=dimension, shards=found.machines - 1, machine=MACHINE).fits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": 0}, "documents must be at least 1"),
        ({"documents": 10, "shards": 0}, "shards and replicas must be at least 1"),
        ({"documents": 10, "share": 0}, "share must be above 0 and at most 1"),
        ({"documents": 10, "codes": 0}, "codes must be at least 1"),
    ],
)
def test_what_makes_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        estimate(**arguments)


def test_a_machine_that_does_nothing():
    with pytest.raises(ValueError, match="scan_rate must be a number above 0"):
        Machine(scan_rate=0)
