"""A search among some of the documents finds what a search of only those finds, on every path; tiles can be kept."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyencoders.scoring import PreparedDocuments, Selection, kernel, search

PATHS = [*(kernel.native().variants() if kernel.native() else []), "numpy"]
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    monkeypatch.setenv(kernel.CHOICE, request.param)
    return request.param


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@SETTINGS
@given(
    n=st.integers(1, 700),
    m=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    k=st.integers(1, 40),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.05, 1.0]),
)
def test_finds_what_a_search_of_only_those_finds(path, n, m, share, k, seed, temperature):
    documents, codes = vectors(n, 12, seed=seed), vectors(3, m, 12, seed=seed + 1)
    codes[0, : m // 2] = 0  # absent
    codes[1] = 0  # no code at all
    allowed = np.random.default_rng(seed).random(n) < share
    found = PreparedDocuments(documents).search(codes, k, temperature, Selection(allowed))
    if not allowed.any():
        assert found.indices.shape == found.scores.shape == (3, 0)
        return
    expected = search(documents[allowed], codes, k, temperature)
    np.testing.assert_array_equal(found.indices, np.flatnonzero(allowed)[expected.indices])
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-12)


def test_the_order_of_the_tiles_changes_nothing(path):
    documents, codes = vectors(5000, 16), vectors(4, 6, 16, seed=1)
    prepared = PreparedDocuments(documents)
    expected = prepared.search(codes, 10)
    order = np.random.default_rng(0).permutation(-(-5000 // 32))
    found = prepared.search(codes, 10, selection=Selection(np.ones(5000, dtype=bool), order))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_within_tiles(path):
    documents, codes = vectors(1000, 16), vectors(2, 4, 16, seed=1)
    whole = Selection(np.arange(1000) % 3 != 0)
    fewer = whole.within([30, 2])
    allowed = np.zeros(1000, dtype=bool)
    allowed[64:96] = allowed[960:992] = True
    allowed[::3] = False
    np.testing.assert_array_equal(fewer.mask(), allowed)
    assert len(fewer) == allowed.sum()
    found = PreparedDocuments(documents).search(codes, 5, selection=fewer)
    np.testing.assert_array_equal(
        found.indices, PreparedDocuments(documents).search(codes, 5, selection=Selection(allowed)).indices
    )


def test_estimates_are_near_the_products(path):
    documents, queries = vectors(333, 40), vectors(11, 40, seed=1)
    estimated = PreparedDocuments(documents).estimate(queries)
    exact = queries @ documents.T
    sizes = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(documents, axis=1)
    assert estimated.shape == (11, 333)
    assert (np.abs(estimated - exact) <= 0.02 * sizes).all()


def test_kept_tiles_are_the_same_documents(path, tmp_path):
    documents, codes = vectors(1234, 24), vectors(3, 5, 24, seed=1)
    first = PreparedDocuments(documents)
    PreparedDocuments(documents[:64]).keep(tmp_path)
    PreparedDocuments(documents[64:]).keep(tmp_path)
    again = PreparedDocuments(documents, kept=tmp_path)
    np.testing.assert_array_equal(again.search(codes).indices, first.search(codes).indices)
    np.testing.assert_array_equal(again.search(codes).scores, first.search(codes).scores)


@pytest.mark.skipif(len(PATHS) == 1, reason="PyTorch keeps no tiles")
def test_kept_tiles_are_read_and_those_of_other_documents_refused(tmp_path):
    PreparedDocuments(vectors(100, 24)).keep(tmp_path)
    other = PreparedDocuments(vectors(100, 24, seed=1), kept=tmp_path)
    own = PreparedDocuments(vectors(100, 24))
    np.testing.assert_array_equal(other.estimate(vectors(1, 24)), own.estimate(vectors(1, 24)))
    with pytest.raises(ValueError, match="these documents take"):
        PreparedDocuments(vectors(200, 24), kept=tmp_path)


def test_what_does_not_fit_is_refused():
    five, documents = Selection(np.ones(5, dtype=bool)), PreparedDocuments(vectors(6, 4))
    with pytest.raises(ValueError, match="among 5 documents, and there are 6"):
        documents.search(vectors(1, 4), selection=five)
    with pytest.raises(ValueError, match="from 0 to 1"):
        Selection(np.ones(64, dtype=bool), [2])
    with pytest.raises(ValueError, match="one truth value for each"):
        Selection(np.ones((2, 2), dtype=bool))
