"""Ranking with kept vectors is the model's own ranking; documents are encoded once; one thread at a time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.encoders.document_cache import DocumentCache
from polyencoders.encoders.locks import lock_of
from polyencoders.errors import ModelError

QUERIES = ["What do you eat?", ["Hi!", "Hello, who are you?", "And where do you live?"], "x"]
DOCUMENTS = ["I am a nurse.", "Pancakes, with a great deal of syrup.", "In Oslo.", "", "In Oslo.", "Since 1998."]


def check(found, expected):
    assert [hit["corpus_id"] for hit in found] == [hit["corpus_id"] for hit in expected]
    np.testing.assert_allclose([hit["score"] for hit in found], [hit["score"] for hit in expected], atol=1e-4)


def test_it_ranks_as_the_model_does(model):
    ranking = CachedRanking(model)
    for _ in ("encoding", "from the cache"):
        for query in QUERIES:
            check(ranking.rank(query, DOCUMENTS), model.rank(query, DOCUMENTS))
            check(ranking.rank(query, DOCUMENTS, top_k=2), model.rank(query, DOCUMENTS, top_k=2))
            check(ranking.rank(query, DOCUMENTS, top_k=50), model.rank(query, DOCUMENTS))


def test_no_documents_are_no_hits(model):
    assert CachedRanking(model).rank("Hello?", []) == []


def test_equal_documents_stay_in_the_order_given(model):
    found = CachedRanking(model).rank("Hello?", ["In Oslo."] * 4)
    assert [hit["corpus_id"] for hit in found] == [0, 1, 2, 3]
    assert len({hit["score"] for hit in found}) == 1


def test_a_document_is_encoded_once_and_with_a_file_once_for_all(built, tmp_path):
    model = built("poly-learnt")
    first = CachedRanking(model, tmp_path / "vectors")
    first.rank(QUERIES[0], DOCUMENTS)
    first.rank(QUERIES[1], DOCUMENTS[::-1])
    assert first.cache.misses == len(set(DOCUMENTS))
    second = CachedRanking(model, str(tmp_path / "vectors"))
    check(second.rank(QUERIES[0], DOCUMENTS), model.rank(QUERIES[0], DOCUMENTS))
    assert second.cache.misses == 0


def test_the_model_may_be_given_by_its_directory(built, tmp_path):
    built("bi").save(tmp_path / "bi")
    check(CachedRanking(tmp_path / "bi").rank(QUERIES[0], DOCUMENTS), built("bi").rank(QUERIES[0], DOCUMENTS))


@pytest.mark.parametrize(
    ("query", "documents", "top_k", "error", "message"),
    [
        (5, ["a"], None, TypeError, "a query is"),
        (5, [], None, TypeError, "a query is"),
        ([], ["a"], None, ValueError, "at least one turn"),
        ("q", ["a", None], None, TypeError, "a document is a text"),
        ("q", "a", None, TypeError, "list of texts"),
        ("q", ["a"], 0, ValueError, "top_k"),
    ],
)
def test_what_cannot_be_ranked_is_refused(built, query, documents, top_k, error, message):
    with pytest.raises(error, match=message):
        CachedRanking(built("bi")).rank(query, documents, top_k)


def test_what_cannot_rank_is_refused(built, tmp_path):
    with pytest.raises(ModelError, match=r"CrossEncoder reads query and document together .* leave cache out"):
        CachedRanking(built("cross"), tmp_path / "vectors")
    with pytest.raises(ModelError, match=r"expected a model of this package, .* got 7"):
        CachedRanking(7)


@pytest.mark.parametrize("name", ["poly-learnt", "cross"])
def test_one_thread_at_a_time_is_in_the_model_however_many_rank(name, build, monkeypatch):
    model = build(name)
    expected = [model.rank(query, DOCUMENTS) for query in QUERIES]
    inside, most = set(), []
    own = model.preprocess

    def watched(*arguments, **options):
        inside.add(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.002)
        try:
            return own(*arguments, **options)
        finally:
            inside.discard(threading.get_ident())

    monkeypatch.setattr(model, "preprocess", watched)
    rankings = [CachedRanking(model), CachedRanking(model)]  # of one model: they must know of each other
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            (number % 3, pool.submit(rankings[number % 2].rank, QUERIES[number % 3], DOCUMENTS)) for number in range(24)
        ]
        for which, job in jobs:
            check(job.result(), expected[which])
    assert max(most) == 1


def test_threads_that_want_the_same_documents_encode_them_once(build):
    ranking = CachedRanking(build("bi"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ranking.rank(QUERIES[0], DOCUMENTS), range(12)))
    assert ranking.cache.misses == len(set(DOCUMENTS))


def test_scores_are_the_same_on_machines_with_bf16(built, monkeypatch):
    monkeypatch.setattr("polyencoders.models.dual.bf16_is_native", lambda device: True)
    assert DocumentCache(built("bi")).bf16
    assert not CachedRanking(built("bi")).cache.bf16


def test_a_lock_goes_with_its_model(build):
    import gc
    import weakref

    model = build("bi")
    lock = lock_of(model)
    assert lock_of(model) is lock
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
