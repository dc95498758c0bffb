"""Addends: what is known of a document beside its vector, added to its score. The k best are those by the sum."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyencoders.scoring import PreparedDocuments, Selection, kernel, score_all_pairs

PATHS = [*(kernel.native().variants() if kernel.native() else []), "numpy"]
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SIZES = {"none": 0.0, "tiny": 1e-9, "like the score": 1.0, "far above it": 1e4}


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setenv(kernel.CHOICE, request.param)
    return request.param


def assert_best(found, documents, codes, k, temperature, addends, allowed):
    """The sums in float64, exhaustively; sums that differ by rounding alone may stand in either order."""
    wide = documents.astype(np.float64)
    sums = np.asarray(score_all_pairs(codes.astype(np.float64), wide, temperature)) + addends.astype(np.float32)
    rounding = 1e-10 * (1e-30 + np.abs(sums).max(initial=0))
    order = np.lexsort((found.indices, -found.scores), axis=-1)
    assert (order == np.arange(found.indices.shape[1])).all(), "best first, ties by index"
    for indices, scores, mine in zip(found.indices, found.scores, sums, strict=True):
        mine = np.where(allowed, mine, -np.inf)
        expected = np.lexsort((np.arange(len(mine)), -mine))[: min(k, allowed.sum())]
        np.testing.assert_allclose(scores, mine[expected], rtol=1e-10, atol=rounding)
        assert (np.abs(mine[indices] - mine[expected]) <= rounding).all()
        assert len(set(indices)) == len(expected)


def problem(seed, n, d, q, m, size, alike):
    generator = np.random.default_rng(seed)
    codes = generator.standard_normal((q, m, d)) * (0.2 if alike else 1.0) + generator.standard_normal((q, 1, d))
    codes[generator.random((q, m)) < 0.2] = 0  # absent
    documents = generator.standard_normal((n, d))[generator.integers(max(1, n // 2), size=n)]  # some twice
    addends = SIZES[size] * generator.standard_normal((q, n)) * (generator.random((q, n)) < 0.3)
    return documents.astype(np.float32), codes.astype(np.float32), addends.astype(np.float32)


@SETTINGS
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 400),
    d=st.integers(1, 40),
    q=st.integers(1, 3),
    m=st.integers(1, 30),
    k=st.integers(1, 20),
    size=st.sampled_from(sorted(SIZES)),
    alike=st.booleans(),
    temperature=st.sampled_from([1.0, 0.05]),
    share=st.sampled_from([1.0, 0.5, 0.02]),
)
def test_the_best_by_the_sum(path, seed, n, d, q, m, k, size, alike, temperature, share):
    documents, codes, addends = problem(seed, n, d, q, m, size, alike)
    allowed = np.random.default_rng(seed).random(n) < share
    found = PreparedDocuments(documents).search(codes, k, temperature, Selection(allowed), addends)
    assert_best(found, documents, codes, k, temperature, addends, allowed)


@pytest.mark.parametrize("m", [1, 16, 100])
@pytest.mark.parametrize("size", SIZES)
def test_many_documents(path, m, size):
    """Enough of them for chunks, openings and changes of the screen."""
    documents, codes, addends = problem(3, 9_000, 48, 3, m, size, alike=True)
    found = PreparedDocuments(documents).search(codes, 10, 0.05, None, addends)
    assert_best(found, documents, codes, 10, 0.05, addends, np.ones(9_000, dtype=bool))


def test_a_query_without_codes_finds_the_largest_addends(path):
    documents, addends = np.ones((70, 8), dtype=np.float32), np.zeros((1, 70))
    addends[0, [3, 65]] = 1, 2
    found = PreparedDocuments(documents).search(np.zeros((1, 2, 8)), 3, addends=addends)
    assert found.indices.tolist() == [[65, 3, 0]]
    assert found.scores.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize(
    ("addends", "error", "says"),
    [
        (np.zeros((1, 4)), ValueError, r"expected \(1, 5\), one for each query and document, got \(1, 4\)"),
        (np.full((1, 5), np.nan), ValueError, r"expected numbers from -1e\+15 to 1e\+15"),
        (np.full((1, 5), np.inf), ValueError, "expected numbers from"),
        (np.zeros((1, 5), dtype=int), TypeError, "an array of floating-point numbers"),
        ([0.0] * 5, TypeError, "an array of floating-point numbers, got list"),
    ],
)
def test_addends_refused(path, addends, error, says):
    with pytest.raises(error, match=says):
        PreparedDocuments(np.ones((5, 3), dtype=np.float32)).search(np.ones((1, 2, 3)), addends=addends)
