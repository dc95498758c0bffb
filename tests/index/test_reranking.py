"""A reranker reads the best of a search: the fused order, and what is still said of the search itself."""

import numpy as np
import pytest

from polyencoders.encoders import Reranker
from polyencoders.index import Index

QUERIES = ["birch and ember", ["Hello!", "the lagoon in the north"]]


@pytest.fixture(scope="module")
def reader(build):
    return build("CrossEncoder")


@pytest.fixture(scope="module")
def index(small_for_all, poly, texts, tmp_path_factory):
    made = Index.create(tmp_path_factory.mktemp("reranked") / "index", poly)
    made.add([{"id": number, "text": text, "even": number % 2 == 0} for number, text in enumerate(texts(400))])
    return made


@pytest.mark.parametrize("options", [{}, {"where": "even"}, {"mode": "fast", "share": 0.1}])
@pytest.mark.parametrize("k", [3, 20, 50])
def test_the_best_by_the_fused_score(index, reader, options, k):
    answers = index.search(QUERIES, k, rerank=reader, rerank_weight=0.7, **options)
    before = index.search(QUERIES, max(k, 20), **options)
    for query, answer, first in zip(QUERIES, answers, before, strict=True):
        read = reader.score_pairs([(query, hit.text) for hit in first[:20]])
        added = [*read.tolist(), *[float(read.min())] * (len(first) - 20)]
        expected = {hit.id: hit.score + 0.7 * more for hit, more in zip(first, added, strict=True)}
        best = sorted(expected, key=lambda id: -expected[id])[:k]
        assert [hit.id for hit in answer] == best
        np.testing.assert_allclose([hit.score for hit in answer], [expected[id] for id in best], atol=1e-4)
        assert answer.first == first
        assert (answer.certified, answer.bound, answer.error) == (first.certified, first.bound, first.error)
        assert answer.read == 20


def test_how_many_are_read(index, reader):
    answer = index.search(QUERIES[0], 5, rerank=reader, rerank_top=7)
    assert (answer.read, len(answer), len(answer.first)) == (7, 5, 7)
    answer = index.search(QUERIES[0], 5, rerank=reader, rerank_budget=0)
    assert (answer.read, answer.hits) == (0, index.search(QUERIES[0], 5).hits)
    assert index.search(QUERIES[0], 5).read is None


def test_a_model_is_loaded_once(index, reader, tmp_path, monkeypatch):
    reader.save_pretrained(str(tmp_path / "reader"))
    expected = index.search(QUERIES[0], 5, rerank=reader)
    for _ in range(2):
        found = index.search(QUERIES[0], 5, rerank=tmp_path / "reader")
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        monkeypatch.setattr("polyencoders.encoders.reranking.load", None)


def test_documents_without_texts_are_not_read(reader, tmp_path):
    vectors = np.eye(16, dtype=np.float32)
    index = Index.from_vectors(tmp_path / "adopted", vectors)
    assert index.search(np.eye(16)[:1], 3)[0].read is None
    with pytest.raises(ValueError, match="a reranker reads texts"):
        index.search(np.eye(16)[:1], 3, rerank=reader)


def test_a_reranker_can_be_given_whole(index, reader):
    reranker = Reranker(reader, top=30, weight=0.2)
    expected = index.search(QUERIES[0], 5, rerank=reader, rerank_top=30, rerank_weight=0.2)
    assert index.search(QUERIES[0], 5, rerank=reranker) == expected


def test_queries_may_be_a_generator(index, reader):
    assert index.search((query for query in QUERIES), 3) == index.search(QUERIES, 3)
    assert index.search(iter(QUERIES), 3, rerank=reader) == index.search(QUERIES, 3, rerank=reader)
