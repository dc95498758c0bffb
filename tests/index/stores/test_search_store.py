"""Searching a store by inner products alone, against the reference score of every document it holds."""

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.errors import MissingExtraError
from polyencoders.index.stores import (
    MilvusStore,
    Neighbours,
    PgVectorStore,
    StoredDocument,
    StoreError,
    search_store,
)
from polyencoders.index.stores.search import rounding_margin
from polyencoders.scoring.torch_score import score_all_pairs


class Shelf:
    """A store in memory. A condition names a group: every third document has the group "0"."""

    exact = True

    def __init__(self, vectors, names=None):
        self.vectors = np.asarray(vectors, dtype=np.float32)
        self.names = names or [f"{number:04}" for number in range(len(self.vectors))]
        self.dimension = self.vectors.shape[1]
        self.longest = float(np.linalg.norm(self.vectors.astype(float), axis=1).max(initial=0))
        self.asked, self.fetched = [], []

    def __len__(self):
        return len(self.vectors)

    def visible(self, where):
        return np.array([i for i in range(len(self)) if where is None or str(i % 3) == where], dtype=int)

    def search(self, vectors, k, where=None):
        assert vectors.dtype == np.float32
        self.asked.append((len(vectors), k))
        rows = self.visible(where)
        found = []
        for vector in vectors:
            products = self.vectors[rows] @ vector
            best = np.argsort(-products, kind="stable")[:k]
            found.append(Neighbours([self.names[row] for row in rows[best]], products[best]))
        return found

    def fetch(self, ids):
        self.fetched += ids
        where = {name: row for row, name in enumerate(self.names)}
        return [StoredDocument(id, self.vectors[where[id]], f"text of {id}", {"row": where[id]}) for id in ids]

    def brute_force(self, codes, temperature, where=None):
        """Every score of the documents that meet the condition, by name."""
        rows = self.visible(where)
        documents = torch.from_numpy(self.vectors[rows]).double()
        scores = score_all_pairs(torch.from_numpy(codes)[None].double(), documents, temperature)[0]
        return dict(zip((self.names[row] for row in rows), scores.tolist(), strict=True))


class ForgetfulShelf(Shelf):
    """Misses every other document, as an index might."""

    exact = False

    def visible(self, where):
        return super().visible(where)[::2]


@st.composite
def problems(draw):
    """A shelf, query codes (q, m, d), some absent, and how to search."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, q, m, d = (draw(st.integers(*range_)) for range_ in ((0, 60), (1, 3), (1, 5), (1, 6)))
    scale = draw(st.sampled_from([1e-3, 1.0, 40.0]))
    vectors = generator.standard_normal((n, d)) * scale
    codes = generator.standard_normal((q, m, d))
    if draw(st.booleans()):  # ties: few different vectors, of whole numbers
        vectors, codes = np.round(vectors / scale), np.round(codes)
    codes[generator.random((q, m)) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0
    names = [str(name) for name in generator.permutation(n)]
    options = {
        "k": draw(st.integers(1, 8)),
        "temperature": draw(st.sampled_from([0.05, 1.0, 7.0])),
        "where": draw(st.sampled_from([None, "0"])),
        "first": draw(st.integers(1, 10)),
        "most": draw(st.sampled_from([8, 16, 100])),
    }
    return vectors, names, codes, options


@given(problems())
def test_what_is_certified_is_exact_and_bounds_hold(problem):
    vectors, names, codes, options = problem
    shelf = Shelf(vectors, names)
    k, temperature, where = options["k"], options["temperature"], options["where"]
    for one, answer in zip(codes, search_store(shelf, codes, **options), strict=True):
        scores = shelf.brute_force(one, temperature, where)
        slack = 1e-12 * max([1.0, *map(abs, scores.values())])
        best = sorted(scores.values(), reverse=True)[:k]
        assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
        assert len(answer.hits) == len(best)
        for hit in answer.hits:
            assert hit.score == pytest.approx(scores.pop(hit.id), abs=slack)
            assert (hit.text, hit.metadata) == (f"text of {hit.id}", {"row": names.index(hit.id)})
        last = answer.hits[-1].score if answer.hits else -math.inf
        assert all(score <= max(answer.bound, last) + slack for score in scores.values())
        if answer.certified:
            assert [hit.score for hit in answer.hits] == pytest.approx(best, abs=slack)
            assert answer.gap == 0
        if options["most"] > len(vectors) and not answer.certified:
            pytest.fail("everything was seen, and is not certified")


@given(problems())
def test_documents_with_equal_scores_come_by_id(problem):
    vectors, _, codes, options = problem
    vectors = np.concatenate([vectors, vectors, vectors])
    shelf = Shelf(vectors, [f"{number:03}" for number in np.random.default_rng(0).permutation(len(vectors))])
    for answer in search_store(shelf, codes, **options):
        assert list(answer.hits) == sorted(answer.hits, key=lambda hit: (-hit.score, hit.id))
        by_vector = {}
        for hit in answer.hits:
            by_vector.setdefault(shelf.vectors[hit.metadata["row"]].tobytes(), set()).add(hit.score)
        assert all(len(scores) == 1 for scores in by_vector.values())


@given(problems())
def test_a_store_that_may_miss_documents_is_never_certified(problem):
    vectors, names, codes, options = problem
    assert not any(answer.certified for answer in search_store(ForgetfulShelf(vectors, names), codes, **options))


@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.sampled_from([1e-20, 1e-3, 1.0, 1e8]))
def test_float32_is_no_further_off_than_the_margin(d, seed, scale):
    generator = np.random.default_rng(seed)
    codes, documents = generator.random((4, d)) * scale, (generator.random((5, d)) * scale).astype(np.float32)
    lengths = np.linalg.norm(codes, axis=1)
    longest = float(np.linalg.norm(documents.astype(float), axis=1).max())
    margins = rounding_margin(lengths, longest, d)
    true = codes @ documents.T.astype(float)
    one_by_one = np.zeros((4, 5), dtype=np.float32)  # the order that rounds worst
    for column in range(d):
        one_by_one += np.outer(codes[:, column].astype(np.float32), documents[:, column])
    assert (abs(one_by_one.astype(float) - true) <= margins[:, None]).all()


def test_a_level_document_that_was_not_seen_leaves_the_answer_open():
    shelf = Shelf(np.ones((50, 2)))
    (answer,) = search_store(shelf, np.ones((1, 2)), k=3, first=3, most=6)
    assert not answer.certified
    assert answer.bound >= answer.hits[-1].score == 2
    assert 0 <= answer.gap < 1e-5
    (answer,) = search_store(shelf, np.ones((1, 2)), k=3, first=3, most=64)
    assert answer.certified
    assert answer.bound == -math.inf
    assert [hit.id for hit in answer.hits] == ["0000", "0001", "0002"]


@pytest.mark.filterwarnings("ignore:overflow")
def test_products_beyond_float32_certify_nothing():
    (answer,) = search_store(Shelf(np.full((9, 2), 1e30)), np.full((1, 2), 1e30), k=2, first=2, most=4)
    assert not answer.certified
    assert answer.bound == math.inf
    assert answer.gap == math.inf


def test_one_call_for_all_open_queries_and_no_document_twice():
    generator = np.random.default_rng(0)
    shelf = Shelf(generator.standard_normal((2000, 8)))
    easy = np.zeros((4, 8))
    easy[0] = shelf.vectors[7] * 5  # one code: its neighbours are the answer
    hard = generator.standard_normal((4, 8))
    answers = search_store(shelf, np.stack([easy, hard]), k=5, temperature=50.0, first=8)
    assert all(answer.certified for answer in answers)
    assert shelf.asked[0] == (5, 8)  # one code of the first query is present, four of the second
    assert shelf.asked[1:] == [(4, 8 * 2**doubling) for doubling in range(1, len(shelf.asked))]
    assert len(shelf.asked) > 1
    assert len(set(shelf.fetched)) == len(shelf.fetched)


def test_a_bi_encoders_query_is_one_vector():
    generator = np.random.default_rng(0)
    shelf, vectors = Shelf(generator.standard_normal((300, 6))), generator.standard_normal((4, 6)).astype(np.float32)
    from_matrix = search_store(shelf, vectors, k=3)
    assert search_store(shelf, torch.from_numpy(vectors)[:, None].requires_grad_(), k=3) == from_matrix
    expected = np.argsort(-(vectors.astype(float) @ shelf.vectors.T.astype(float)), axis=1)[:, :3]
    assert [[hit.metadata["row"] for hit in answer.hits] for answer in from_matrix] == expected.tolist()


def test_a_query_without_codes_scores_nothing_above_another():
    (answer,) = search_store(Shelf(np.eye(3)), np.zeros((1, 4, 3)), k=2)
    assert [(hit.id, hit.score) for hit in answer.hits] == [("0000", 0), ("0001", 0)]


def test_an_empty_store_and_no_queries():
    (answer,) = search_store(Shelf(np.zeros((0, 3))), np.ones((1, 2, 3)))
    assert answer == ([], True, -math.inf)
    assert answer.gap == 0
    assert search_store(Shelf(np.eye(3)), np.ones((0, 2, 3))) == []


def test_a_document_deleted_between_search_and_fetch_is_no_hit():
    shelf = Shelf(np.eye(3))
    everything = shelf.fetch
    shelf.fetch = lambda ids: [document for document in everything(ids) if document.id != "0000"]
    (answer,) = search_store(shelf, np.array([[3.0, 2.0, 1.0]]), k=2)
    assert [hit.id for hit in answer.hits] == ["0001", "0002"]


@pytest.mark.parametrize(
    ("codes", "options", "error", "says"),
    [
        (np.ones((1, 2, 4)), {}, ValueError, r"\(q, m, 3\).*shape \(1, 2, 4\)"),
        (np.ones(3), {}, ValueError, r"the shape \(3,\)"),
        (np.ones((1, 0, 3)), {}, ValueError, r"the shape \(1, 0, 3\)"),
        (np.ones((1, 3), dtype=int), {}, TypeError, "floating-point numbers, got int64"),
        (torch.ones(1, 3, dtype=torch.long), {}, TypeError, r"got torch\.int64"),
        ([[1.0, 2.0, 3.0]], {}, TypeError, "got list"),
        (np.full((1, 3), np.nan), {}, ValueError, "finite"),
        (np.full((1, 3), 1e39), {}, ValueError, "float32"),
        (np.ones((1, 3)), {"k": 0}, ValueError, "k, how many documents.*got 0"),
        (np.ones((1, 3)), {"temperature": 0.0}, ValueError, r"temperature.*got 0\.0"),
        (np.ones((1, 3)), {"temperature": math.nan}, ValueError, "temperature.*got nan"),
        (np.ones((1, 3)), {"first": 0}, ValueError, "first.*got 0"),
        (np.ones((1, 3)), {"k": 9, "most": 8}, ValueError, "most.*at least k = 9, got 8"),
    ],
)
def test_bad_input_is_one_clear_line(codes, options, error, says):
    with pytest.raises(error, match=says) as raised:
        search_store(Shelf(np.eye(3)), codes, **options)
    assert "\n" not in str(raised.value)


def test_a_store_that_answers_too_little_is_found_out():
    shelf = Shelf(np.eye(3))
    shelf.search = lambda vectors, k, where: []
    with pytest.raises(StoreError, match="0 vectors, asked for 1"):
        search_store(shelf, np.ones((1, 3)))


@pytest.mark.parametrize(
    ("store", "package", "extra"), [(PgVectorStore, "psycopg", "pgvector"), (MilvusStore, "pymilvus", "milvus")]
)
def test_a_missing_package_is_named_with_its_extra(store, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"the package {package}: .*polyencoders\[{extra}\]"):
        store("somewhere")


def test_the_stores_packages_are_imported_where_they_are_used(run_python):
    loaded = run_python("import sys, polyencoders.index.stores; print(*sys.modules)").split()
    assert not {"psycopg", "pymilvus", "grpc"} & set(loaded)
