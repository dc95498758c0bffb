"""Exact search is brute force; fast search says truly what it may have missed. Codes in, so that no model is needed."""

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyencoders.errors import IndexingError, ModelError
from polyencoders.index import Index
from polyencoders.index.adopting import put
from polyencoders.index.documents import document
from polyencoders.scoring import kernel

KINDS = ("normal", "clustered", "uneven", "zeros and twins")
PATHS = ["native", "numpy"] if kernel.native() else ["numpy"]
N, DIMENSION = 900, 16
FILTERS = {
    None: lambda metadata: True,
    "lang = 'en'": lambda metadata: metadata["lang"] == "en",
    "year >= 2015 AND lang != 'en'": lambda metadata: metadata["year"] >= 2015 and metadata["lang"] != "en",
    "rare": lambda metadata: metadata.get("rare", False),
    "false": lambda metadata: False,
    "text = 'text 7'": lambda metadata: metadata["place"] == 7,
}
"""Conditions, and what they mean."""


def vectors(kind, n, seed=0):
    generator = np.random.default_rng(seed)
    some = generator.normal(size=(n, DIMENSION))
    if kind in ("clustered", "zeros and twins"):
        some = np.random.default_rng(1).normal(size=(30, DIMENSION))[generator.integers(0, 30, n)] + 0.1 * some
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    if kind == "uneven":
        some *= 10.0 ** generator.uniform(-2, 2, (n, 1))
    if kind == "zeros and twins":
        some[generator.random(n) < 0.3] = 0
        some[n // 2 :] = some[: n - n // 2]
    return some.astype(np.float32)


def codes(kind, m, seed, documents):
    """Of one query: `(m, d)`."""
    generator = np.random.default_rng(seed)
    some = generator.normal(size=(m, DIMENSION))
    if kind == "near a document":
        some = 3 * documents[generator.integers(len(documents))] + 0.02 * some
    elif kind == "opposite":
        some[m // 2 :] = -some[: m - m // 2]
    elif kind == "some absent":
        some[generator.random(m) < 0.5] = 0
    elif kind == "all absent":
        some[:] = 0
    return some


CODES = ("any", "near a document", "opposite", "some absent", "all absent")


def rows(n, first=0):
    return [
        {
            "id": f"d{i:05}",
            "text": f"text {i}",
            "lang": ("en", "de", "fr")[i % 3],
            "year": 2000 + i % 23,
            "place": i,
            **({"rare": True} if i % 200 == 5 else {}),
            "tags": [f"t{i % 5}", {"deep": i}],
        }
        for i in range(first, first + n)
    ]


def take(monkeypatch, path):
    """The path of every search until the patch is undone."""
    if path == "numpy":
        monkeypatch.setenv(kernel.CHOICE, "numpy")
    else:
        monkeypatch.delenv(kernel.CHOICE, raising=False)


@pytest.fixture(scope="module", params=[(kind, path) for kind in KINDS for path in PATHS], ids=" ".join)
def shelf(request, small_for_all, new_truth, tmp_path_factory):
    """An index of documents in a layout, some of them deleted or replaced, and some beside it; and what it holds."""
    kind, path = request.param
    with pytest.MonkeyPatch.context() as monkeypatch:
        take(monkeypatch, path)
        truth = new_truth()
        some, given = vectors(kind, N), rows(N)
        index = Index.from_vectors(tmp_path_factory.mktemp(kind) / "x", some, given)
        truth.put(given, some)
        assert index.info().laid_out == N
        assert index.delete([f"d{i:05}" for i in range(0, N, 9)]) == truth.drop(lambda id, _: int(id[1:]) % 9 == 0)
        assert index.delete(where="year = 2003") == truth.drop(lambda _, metadata: metadata["year"] == 2003)
        later = [*rows(40, first=N), *({**row, "text": "another", "lang": "en"} for row in rows(12, first=55))]
        later_vectors = vectors(kind, len(later), seed=2)
        put(index._writer, [document(row) for row in later], later_vectors)
        truth.put(later, later_vectors)
        index.refresh()
        assert len(index) == len(truth)
        assert 0 < index.info().laid_out < len(truth)
        yield index, truth, some


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(CODES),
    m=st.sampled_from([1, 2, 5, 16]),
    k=st.sampled_from([1, 3, 10, 100, 5000]),
    where=st.sampled_from(list(FILTERS)),
    temperature=st.sampled_from([0.05, 1.0, 20.0]),
    share=st.sampled_from([None, 0.001, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_hits_are_those_of_brute_force_and_bounds_hold(shelf, kind, m, k, where, temperature, share, seed):
    index, truth, documents = shelf
    given = codes(kind, m, seed, documents)
    scores = truth.scores(given, temperature, FILTERS[where])
    (exact,) = index.search(given[None], k, where, temperature=temperature)
    truth.check_best(exact, scores, k)
    truth.check_bound(exact, scores)
    assert exact.certified
    assert exact.error == 0
    assert exact.looked_at == len(scores)
    assert exact.version == index.version

    (fast,) = index.search(given[None], k, where, "fast", share, temperature)
    truth.check_hits(fast, scores)
    truth.check_bound(fast, scores)
    assert fast.looked_at <= len(scores)
    assert len(fast) == min(k, len(scores))
    if fast.certified:
        truth.check_best(fast, scores, k)
        assert fast.error == 0
    if share == 1:
        assert [tuple(hit) for hit in fast] == [tuple(hit) for hit in exact]
        assert fast.certified
        assert fast.looked_at == exact.looked_at


def test_fast_search_looks_at_less_and_is_certified_where_that_is_plain(shelf):
    index, truth, documents = shelf
    seen = Counter()
    for seed in range(60):
        given = codes("near a document", 4, seed, documents)
        (answer,) = index.search(given[None], 1, mode="fast", share=0.1)
        assert answer.looked_at < len(truth) / 2
        truth.check_bound(answer, truth.scores(given))
        seen["near", answer.certified] += 1
        (answer,) = index.search(codes("any", 8, seed, documents)[None], 50, mode="fast", share=0.05)
        seen["any", answer.certified] += 1
    assert seen["any", False] > 0  # there was something to certify
    if index.path.parent.name.startswith("clustered"):  # where vectors are noise no bound is tight
        assert seen["near", True] > 15


@pytest.mark.skipif(kernel.native() is None, reason="PyTorch does not round")
def test_the_bound_allows_for_the_rounding_of_the_estimates(small, monkeypatch, tmp_path, naive_score):
    """Tiles of one and the same document have no width: all that stands between bound and score is the rounding."""
    take(monkeypatch, "native")
    generator = np.random.default_rng(0)
    each = generator.normal(size=(100, 8))
    documents = np.repeat(each / np.linalg.norm(each, axis=1, keepdims=True), 32, axis=0).astype(np.float32)
    index = Index.from_vectors(tmp_path / "x", documents)
    queries = generator.normal(size=(500, 1, 8)) * 10
    k = 10 * 32  # just what is looked at: a tile that was ranked wrongly is one that was missed
    missed = 0
    for query, answer in zip(queries, index.search(queries, k, mode="fast", share=0.1), strict=True):
        assert answer.looked_at == k
        scores = naive_score(query, documents)
        others = np.delete(scores, [int(hit.id) for hit in answer]).max()
        assert others <= answer.bound + 1e-9
        missed += others > answer[-1].score + 1e-9
        assert not (answer.certified and others > answer[-1].score + 1e-9)
    assert missed > 0  # there was something to allow for


@pytest.mark.parametrize("path", PATHS)
def test_recall_of_fast_search(small, monkeypatch, tmp_path, naive_score, path):
    take(monkeypatch, path)
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(100, 32))
    documents = (centres[generator.integers(0, 100, 4000)] + 0.4 * generator.normal(size=(4000, 32))).astype(np.float32)
    index = Index.from_vectors(tmp_path / "x", documents)
    given = centres[generator.integers(0, 100, 30), None] + 0.5 * generator.normal(size=(30, 6, 32))
    recall = []
    for query, answer in zip(given, index.search(given, 10, mode="fast", share=0.05), strict=True):
        assert answer.looked_at < 450
        best = np.argsort(-naive_score(query, documents))[:10]
        recall.append(len({int(hit.id) for hit in answer} & set(best.tolist())) / 10)
    assert np.mean(recall) > 0.9


@pytest.mark.parametrize("how", ["filtered", "deleted"])
def test_nearly_empty_tiles_do_not_use_up_what_fast_search_looks_at(small_for_all, tmp_path, how):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(12, DIMENSION)) * 3
    of = generator.integers(0, 12, 3_000)
    some = (centres[of] + 0.3 * generator.normal(size=(3_000, DIMENSION))).astype(np.float32)
    kept = (of > 0) | (generator.random(3_000) < 0.04)  # of the most promising ones next to nothing
    given = [{"id": str(i), "text": f"text {i}", "kept": bool(one)} for i, one in enumerate(kept)]
    index = Index.from_vectors(tmp_path / "x", some, given)
    if how == "deleted":
        index.delete([str(i) for i in np.flatnonzero(~kept)])
    where = "kept" if how == "filtered" else None
    assert index.info().laid_out == len(index)
    for k, share in ((10, 0.001), (10, 0.02), (100, 0.001)):
        (answer,) = index.search(centres[None, :1], k, where, mode="fast", share=share)
        wanted = max(k, round(share * kept.sum()))
        assert len(answer) == k
        assert wanted <= answer.looked_at < wanted + 32


def test_more_share_looks_at_more(shelf):
    index, truth, documents = shelf
    given = codes("any", 4, 0, documents)[None]
    looked_at = [index.search(given, 5, mode="fast", share=share)[0].looked_at for share in (0.01, 0.2, 0.6, 1.0)]
    assert looked_at == sorted(looked_at)
    assert looked_at[0] < looked_at[1] < looked_at[2] < looked_at[3] == len(truth)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_batch_is_its_queries_one_by_one(shelf, mode):
    index, _, documents = shelf
    given = np.stack([codes(kind, 4, seed, documents) for seed, kind in enumerate(CODES * 3)])
    together = index.search(given, 7, "lang != 'fr'", mode)
    assert len(together) == len(given)
    for one, answer in zip(given, together, strict=True):
        (alone,) = index.search(one[None], 7, "lang != 'fr'", mode)
        assert [hit.id for hit in alone] == [hit.id for hit in answer]
        np.testing.assert_allclose([hit.score for hit in alone], [hit.score for hit in answer], rtol=1e-12)
        assert (alone.certified, alone.looked_at) == (answer.certified, answer.looked_at)


def test_codes_may_be_vectors_tensors_and_of_other_precision(shelf):
    index, _, documents = shelf
    given = codes("any", 1, 3, documents)
    expected = [hit.id for hit in index.search(given[None])[0]]
    for other in (given, torch.from_numpy(given), torch.from_numpy(given)[None].float(), given.astype(np.float32)):
        assert [hit.id for hit in index.search(other)[0]] == expected
    assert index.search(np.empty((0, 3, DIMENSION))) == index.search(np.empty((0, DIMENSION))) == []


def test_an_answer_is_a_sequence_of_its_hits(shelf):
    index, _, documents = shelf
    (answer,) = index.search(documents[:1], k=4)
    assert len(answer) == 4
    assert list(answer) == answer.hits
    assert answer[0] is answer.hits[0]
    assert answer[-1].score <= answer[0].score


def test_equal_scores_are_in_the_order_of_ids(tmp_path):
    same = np.tile(np.ones((1, 4), dtype=np.float32), (6, 1))
    index = Index.from_vectors(tmp_path / "x", same, [{"id": id, "text": "a"} for id in "fbdace"])
    assert [hit.id for hit in index.search(same[:1])[0]] == list("abcdef")
    assert len(index.search(same[:1], 3)[0]) == 3


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_nothing_is_left(small, tmp_path, mode):
    documents = vectors("normal", 300)
    index = Index.from_vectors(tmp_path / "x", documents, rows(300))
    assert index.delete(where="true") == 300
    (answer,) = index.search(documents[:1], mode=mode)
    assert answer.hits == []
    assert answer.certified
    assert answer.bound == -np.inf
    assert (answer.error, answer.looked_at, len(index)) == (0, 0, 0)


@pytest.mark.parametrize(
    "where",
    ["", "lang =", "nosuch = 1", "lang", "1", "lang = 5", "year = 'x'", "year / 0 = 1", "(", "DELETE FROM documents"],
)
def test_a_filter_that_cannot_be_used_is_named(shelf, where):
    index, truth, documents = shelf
    with pytest.raises(IndexingError) as raised:
        index.search(documents[:1], where=where)
    assert f"the filter {where!r} cannot be used" in str(raised.value)
    with pytest.raises(IndexingError) as raised:
        index.delete(where=where)
    assert f"the filter {where!r} cannot be used" in str(raised.value)
    assert len(index) == len(truth)


@pytest.mark.parametrize("where", ["lang = 'en'; DROP TABLE documents", "lang = 'en'; DELETE FROM documents; --"])
def test_a_filter_writes_nothing(shelf, where):
    index, truth, documents = shelf
    version = index.version
    try:
        (answer,) = index.search(documents[:1], k=5000, where=where)
        assert {hit.metadata["lang"] for hit in answer} == {"en"}
    except IndexingError as error:
        assert where in str(error)  # noqa: PT017
    index.refresh()
    assert (len(index), index.version) == (len(truth), version)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "quick"}, "mode must be one of exact, fast, got 'quick'"),
        ({"k": 0}, "at least 1, got 0"),
        ({"k": True}, "at least 1, got True"),
        ({"k": 2.0}, r"at least 1, got 2\.0"),
        ({"share": 0.5}, "for mode='fast'"),
        ({"mode": "fast", "share": 0}, "above 0 and at most 1"),
        ({"mode": "fast", "share": 1.5}, "above 0 and at most 1"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"mode": "fast", "temperature": -1}, "temperature"),
        ({"queries": np.ones((1, 2, 5))}, r"expected query codes \(q, m, 16\) or vectors \(q, 16\), got \(1, 2, 5\)"),
        ({"queries": np.ones(16)}, r"got \(16,\)"),
        ({"queries": np.ones((1, 1, 1, 16))}, r"got \(1, 1, 1, 16\)"),
        ({"queries": np.full((1, 2, 16), np.nan)}, "finite"),
        ({"queries": np.full((1, 2, 16), np.inf), "mode": "fast"}, "finite"),
        ({"queries": np.ones((1, 0, 16))}, r"got \(1, 0, 16\)"),
    ],
)
def test_what_cannot_be_searched(shelf, arguments, said):
    with pytest.raises(ValueError, match=said):
        shelf[0].search(**{"queries": np.ones((1, 16)), **arguments})


def test_texts_want_a_model(shelf):
    with pytest.raises(ModelError, match="does not know which model made its vectors: give query codes"):
        shelf[0].search("What is there?")
    with pytest.raises(ModelError, match="give query codes"):
        shelf[0].add(["a text"])


# -- with a model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken(small_for_all, poly, texts, tmp_path_factory, new_truth):
    """An index that a poly-encoder made, in a layout, and what it holds."""
    index = Index.create(tmp_path_factory.mktemp("index") / "x", poly)
    given = [{"id": f"{i:03}", "text": text, "even": i % 2 == 0} for i, text in enumerate(texts(250))]
    index.add(given, bf16=False)
    assert index.info().laid_out == 250
    truth = new_truth()
    truth.put(given, np.asarray(poly.encode_document([row["text"] for row in given])))
    return index, truth


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_text_finds_what_its_codes_find_by_the_models_own_score(spoken, poly, mode):
    index, truth = spoken
    conversation = ["amber and birch", "cedar?", "delta ember"]
    queries = ["amber and birch", "an ocean, north of the pond", conversation]
    for query, answer in zip(queries, index.search(queries, 6, mode=mode), strict=True):
        scores = truth.scores(poly.encode_query([query])[0], poly.temperature)
        if mode == "exact":
            best = sorted(scores.values(), reverse=True)[:6]
            np.testing.assert_allclose([hit.score for hit in answer], best, rtol=1e-4)
        np.testing.assert_allclose([hit.score for hit in answer], [scores[hit.id] for hit in answer], rtol=1e-4)


def test_one_text_gives_one_answer(spoken):
    index, _ = spoken
    (listed,) = index.search(["amber and birch"])
    assert index.search("amber and birch").hits == listed.hits
    assert index.search([]) == []
    assert all(hit.metadata["even"] for hit in index.search("amber", where="even"))


def test_an_empty_index(poly, tmp_path):
    index = Index.create(tmp_path / "x", poly)
    for mode in ("exact", "fast"):
        answer = index.search("amber", mode=mode)
        assert answer.hits == []
        assert answer.certified
        assert answer.bound == -np.inf
    assert index.search("amber", where="text = 'x'").hits == []
    assert (len(index), index.info().documents, index.get(["x"])) == (0, 0, [])


def test_the_temperature_is_the_models(build, texts, tmp_path, naive_score):
    model = build("PolyEncoder", m=3, temperature=0.05)
    index = Index.create(tmp_path / "x", model)
    index.add(texts(30))
    codes = np.asarray(model.encode_query(["amber"]))
    for arguments, temperature in ({}, 0.05), ({"temperature": 5.0}, 5.0):
        text = index.search("amber", 30, **arguments)
        by_codes = index.search(codes, 30, temperature=temperature)[0]
        assert [hit.id for hit in text] == [hit.id for hit in by_codes]
        np.testing.assert_allclose([hit.score for hit in text], [hit.score for hit in by_codes], rtol=1e-5)
    assert index.search(codes, 30)[0].hits == index.search(codes, 30, temperature=0.05)[0].hits


def test_searching_while_another_thread_adds(tmp_path, poly):
    index = Index.create(tmp_path / "index", poly)
    index.add([{"id": str(number), "text": f"document {number}"} for number in range(40)])
    query = poly.encode_query(["document 7"])
    stop, wrong = threading.Event(), []

    def search():
        while not stop.is_set():
            for hit in index.search(query, k=5, where="id != '3'")[0]:
                if hit.text != f"document {hit.id}":
                    wrong.append(hit)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(40, 60):
        index.add([{"id": str(number), "text": f"document {number}"}])
        index.delete([str(number - 40)])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
