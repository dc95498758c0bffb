"""Tiles hold neighbours, each document once; what is said of a tile holds for each of its documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.index.neighbourhoods import MOST_CLUSTERS, clustering, clusters_for, described, halved, reach

KINDS = ("normal", "clustered", "one-sided", "uneven", "zeros", "equal")


def vectors(kind, n, d, seed):
    generator = np.random.default_rng(seed)
    some = generator.normal(size=(n, d))
    if kind == "clustered":
        some = generator.normal(size=(5, d))[generator.integers(0, 5, n)] + 0.05 * some
    elif kind == "one-sided":
        some = np.abs(some) + 5
    elif kind == "uneven":
        some *= 10.0 ** generator.integers(-6, 7, (n, 1))
    elif kind == "zeros":
        some[generator.random(n) < 0.5] = 0
    elif kind == "equal":
        some[:] = some[:1]
    return some.astype(np.float32)


@given(n=st.integers(1, 700), d=st.integers(1, 20), kind=st.sampled_from(KINDS), seed=st.integers(0, 1000))
def test_halved_is_a_partition_into_tiles_of_32(n, d, kind, seed):
    tiles = halved(vectors(kind, n, d, seed))
    assert sorted(np.concatenate(tiles).tolist()) == list(range(n))
    sizes = [len(tile) for tile in tiles]
    assert sizes == [32] * (n // 32) + [n % 32] * (n % 32 > 0)


def test_neighbours_lie_together():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(8, 16))
    of = np.repeat(np.arange(8), 32)
    generator.shuffle(of)
    tiles = halved((centres[of] + 0.01 * generator.normal(size=(256, 16))).astype(np.float32))
    assert all(len(set(of[tile])) == 1 for tile in tiles)


@given(
    tiles=st.integers(1, 4),
    d=st.integers(1, 24),
    kind=st.sampled_from(KINDS),
    near=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_what_is_described_holds_and_bounds_inner_products(tiles, d, kind, near, seed):
    documents = vectors(kind, 32 * tiles, d, seed)
    about = described(documents)
    generator = np.random.default_rng(seed + 1)
    grouped = documents.astype(np.float64).reshape(tiles, 32, d)
    lengths = np.linalg.norm(grouped, axis=2)
    assert (lengths <= about.longest[:, None]).all()
    there = np.maximum(1, (lengths > 0).sum(1))
    np.testing.assert_allclose(about.lengths, np.sqrt((lengths**2).sum(1) / there), rtol=1e-5)
    centres = about.centres.astype(np.float64)
    products = np.einsum("tjd,td->tj", grouped, centres)
    assert (products >= about.cosines[:, None] * lengths - 1e-9 * (1 + lengths)).all()

    for _ in range(5):
        query = generator.normal(size=d) * 10.0 ** generator.integers(-3, 4)
        if near:  # a bound that is nearly reached
            query = grouped[generator.integers(tiles), generator.integers(32)] + 1e-3 * query
        length = float(np.linalg.norm(query))
        if length == 0:
            continue
        true = grouped @ query
        bounds = reach(about, centres @ query / length, length)
        assert (true <= bounds[:, None] + 1e-12 * (1 + np.abs(true))).all()
        assert (bounds <= length * about.longest * (1 + 1e-5)).all()


def test_the_bound_is_no_wider_than_the_cone():
    angle = np.deg2rad(np.linspace(-10, 10, 32))
    about = described(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32))
    np.testing.assert_allclose(about.cosines, np.cos(np.deg2rad(10)), atol=2e-5)
    for degrees in (0, 5, 10, 45, 90, 120):
        query = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        bound = float(reach(about, about.centres.astype(float) @ query, 1.0)[0])
        assert bound == pytest.approx(max(0, np.cos(np.deg2rad(max(0, degrees - 10)))), abs=2e-3)


def test_zeros_and_opposites():
    about = described(np.zeros((64, 5), dtype=np.float32))
    assert all(np.isfinite(part).all() for part in about)
    assert not about.longest.any()
    assert not reach(about, np.zeros(2), 3.0).any()
    one = np.eye(5, dtype=np.float32)[:1]
    about = described(np.concatenate([one, -one, np.zeros((30, 5), dtype=np.float32)]))  # no direction in common
    assert reach(about, about.centres.astype(float) @ one[0], 1.0)[0] >= 1


def test_padding_counts_for_nothing():
    documents = vectors("normal", 32, 6, 0)
    documents[20:] = 0
    about = described(documents)
    mean = documents[:20].astype(np.float64).sum(0)
    np.testing.assert_allclose(about.centres[0], mean / np.linalg.norm(mean), rtol=1e-5)
    np.testing.assert_allclose(
        about.lengths[0], np.sqrt((documents[:20].astype(np.float64) ** 2).sum() / 20), rtol=1e-5
    )


def test_clusters():
    assert [clusters_for(n) for n in (1, 999, 5_500, 10**9)] == [1, 1, 5, MOST_CLUSTERS]
    generator = np.random.default_rng(0)
    of = generator.integers(0, 2, 300)
    sample = (20 * of[:, None] + generator.normal(size=(300, 8))).astype(np.float32)
    found = clustering(sample, 2).search(sample, 1)[1][:, 0]
    assert len(set(zip(of.tolist(), found.tolist(), strict=True))) == 2
