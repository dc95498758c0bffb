"""Tiny models and small corpora that are laid out and skipped through as large ones are; the score, written naively."""

import numpy as np
import pytest
import torch

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "lagoon", "meadow", "north", "ocean"]


def score(codes, vectors, temperature=1.0):
    """Equation 2 for one query `(m, d)` and documents `(n, d)`, in float64; a code of zeros is absent."""
    codes, vectors = np.asarray(codes, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    codes = codes[(codes != 0).any(1)]
    if not len(codes):
        return np.zeros(len(vectors))
    products = vectors @ codes.T
    weights = np.exp((products - products.max(1, keepdims=True)) / temperature)
    return (weights * products).sum(1) / weights.sum(1)


@pytest.fixture(scope="session")
def naive_score():
    return score


class Truth:
    """What an index ought to hold: a vector, a text and metadata by id."""

    def __init__(self):
        self.documents = {}

    def __len__(self):
        return len(self.documents)

    def put(self, rows, vectors):
        for row, vector in zip(rows, vectors, strict=True):
            metadata = {name: value for name, value in row.items() if name not in ("id", "text") and value is not None}
            self.documents[row["id"]] = (vector, row["text"], metadata)

    def drop(self, unwanted):
        gone = [id for id, (_, _, metadata) in self.documents.items() if unwanted(id, metadata)]
        for id in gone:
            del self.documents[id]
        return len(gone)

    def scores(self, codes, temperature=1.0, keep=lambda metadata: True):
        """Of one query with every document that is kept, by id."""
        kept = {id: vector for id, (vector, _, metadata) in self.documents.items() if keep(metadata)}
        if not kept:
            return {}
        return dict(zip(kept, score(codes, np.stack(list(kept.values())), temperature).tolist(), strict=True))

    def check_hits(self, answer, scores):
        """Whatever was found is there, once, with its own score, text and metadata, best first."""
        ids = [hit.id for hit in answer]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(scores)
        for hit in answer:
            _, text, metadata = self.documents[hit.id]
            assert (hit.text, hit.metadata) == (text, metadata)
        np.testing.assert_allclose([hit.score for hit in answer], [scores[id] for id in ids], rtol=1e-9, atol=1e-12)
        assert [(-hit.score, hit.id) for hit in answer] == sorted((-hit.score, hit.id) for hit in answer)

    def check_best(self, answer, scores, k):
        """They are the best: of those that score the same, any."""
        self.check_hits(answer, scores)
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose([hit.score for hit in answer], best, rtol=1e-9, atol=1e-12)

    def check_bound(self, answer, scores):
        """No document that is not among the hits scores above the bound."""
        found = {hit.id for hit in answer}
        others = [value for id, value in scores.items() if id not in found]
        if not others:
            return
        assert max(others) <= answer.bound + 1e-12 + 1e-9 * abs(answer.bound)
        if answer.hits:
            assert max(others) - answer.hits[-1].score <= answer.error + 1e-9


@pytest.fixture
def truth():
    return Truth()


@pytest.fixture(scope="session")
def new_truth():
    return Truth


def make_small(monkeypatch, laid_out_from=200, least=32):
    monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", laid_out_from)
    monkeypatch.setattr("polyencoders.index.searching.LEAST", least)
    monkeypatch.setattr("polyencoders.index.neighbourhoods.DOCUMENTS_IN_A_CLUSTER", 100)


@pytest.fixture
def small(monkeypatch):
    """From 200 documents there is a layout, and fast search leaves out what it can."""
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def small_for_all():
    """The same, for the indexes that a file's tests share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(monkeypatch)
        yield


@pytest.fixture(scope="session")
def texts():
    """So many different texts."""

    def some(number, seed=0):
        generator = np.random.default_rng(seed)
        return [f"{' '.join(generator.choice(WORDS, 4))} {seed} {i}" for i in range(number)]

    return some


@pytest.fixture(scope="session")
def build(tiny_backbone):
    """A new bi- or poly-encoder: a test may change it."""
    import polyencoders

    def new(architecture, path=None, **settings):
        torch.manual_seed(0)
        return getattr(polyencoders, architecture)(path or tiny_backbone, **settings)

    return new


@pytest.fixture(scope="session")
def poly(build):
    """A poly-encoder, the same for every test: not to be changed."""
    return build("PolyEncoder", m=3)


@pytest.fixture(scope="session")
def bi(build):
    """A bi-encoder with the same document side: not to be changed."""
    return build("BiEncoder")


@pytest.fixture(scope="session")
def vectors_of():
    """The stored vectors by id, read from the outside: the score of a unit vector is a document's number there."""

    def read(index):
        dimension = index.info().dimension
        vectors = {}
        for place, answer in enumerate(index.search(np.eye(dimension), k=max(1, len(index)))):
            for hit in answer:
                vectors.setdefault(hit.id, np.zeros(dimension))[place] = hit.score
        return vectors

    return read
