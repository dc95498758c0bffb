"""One query among others of other threads gets what it would get alone; whose index it is, is checked at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from polyencoders.errors import IndexingError, ModelError
from polyencoders.index import Index
from polyencoders.integrations.searching import opened, search


@pytest.mark.parametrize("where", [None, "lang = 'de' AND year < 2000"])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_it_is_the_indexs_own_search(index, query, where, mode):
    assert search(index, query, 7, where, mode) == index.search([query], 7, where, mode)[0]


def test_the_index_of_these_tests_leaves_documents_out(index, queries):
    """Otherwise nothing here would see a `fast` that is not handed on."""
    assert not all(index.search(query, 5, mode="fast").certified for query in queries)
    assert any(index.search(query, 5, mode="fast").hits != index.search(query, 5).hits for query in queries)


def test_one_thread_at_a_time_is_in_the_model(index, queries, monkeypatch):
    inside, most = set(), []
    own = index.loaded_model().preprocess

    def watched(*arguments, **options):
        inside.add(threading.get_ident())
        most.append(len(inside))
        time.sleep(0.002)
        try:
            return own(*arguments, **options)
        finally:
            inside.discard(threading.get_ident())

    expected = [index.search(query, 5) for query in queries]
    monkeypatch.setattr(index.loaded_model(), "preprocess", watched)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: search(index, queries[number % 3], 5, None, "exact"), range(24)))
    assert found == [expected[number % 3] for number in range(24)]
    assert max(most) == 1


def test_an_index_is_opened_with_its_model(index, models, poly):
    assert opened(index) is index
    assert opened(str(index.path)).model is not None
    assert opened(index.path, models / "PolyEncoder").model is not None
    assert opened(index.path, poly).model is poly


def test_what_does_not_fit_is_refused_before_the_first_search(index, models, poly, tmp_path):
    with pytest.raises(IndexingError, match="no such index"):
        opened(tmp_path / "nothing")
    with pytest.raises(ModelError, match="the index was made by"):
        opened(index.path, models / "BiEncoder")
    with pytest.raises(ModelError, match="is open, and has its own"):
        opened(index, poly)
    Index.create(tmp_path / "of an object", poly).add(["tea"])
    with pytest.raises(ModelError, match="given as an object"):
        opened(tmp_path / "of an object")


@pytest.mark.parametrize("query", [[], 5, ["a", 5]])
def test_what_is_no_query_is_refused(index, query):
    with pytest.raises((TypeError, ValueError), match="a query"):
        search(index, query, 5, None, "exact")


def retrieved(library, index, **options):
    """The ids that a library's retriever finds for a query."""
    if library == "langchain":
        from polyencoders.integrations.langchain import PolyencodersRetriever

        return [one.id for one in PolyencodersRetriever(index, k=5, **options).invoke("music")]
    if library == "haystack":
        from polyencoders.integrations.haystack import PolyencodersRetriever

        component = PolyencodersRetriever(index, top_k=5, **options)
        if isinstance(index, str):
            component = PolyencodersRetriever.from_dict(component.to_dict())
        return [one.id for one in component.run("music")["documents"]]
    from polyencoders.integrations.llama_index import PolyencodersRetriever

    return [one.node_id for one in PolyencodersRetriever(index, k=5, **options).retrieve("music")]


@pytest.mark.parametrize(
    ("library", "module"),
    [("langchain", "langchain_core"), ("haystack", "haystack"), ("llama_index", "llama_index.core")],
)
def test_every_librarys_retriever_reranks(index, models, library, module):
    pytest.importorskip(module)
    options = {"rerank": str(models / "CrossEncoder"), "rerank_top": 30, "rerank_weight": 2.0}
    expected = index.search("music", 5, **options)
    assert [hit.id for hit in expected] != [hit.id for hit in index.search("music", 5)]
    place = str(index.path) if library == "haystack" else index
    assert retrieved(library, place, **options) == [hit.id for hit in expected]


@pytest.mark.parametrize(
    ("library", "module"),
    [("langchain", "langchain_core"), ("haystack", "haystack"), ("llama_index", "llama_index.core")],
)
def test_every_librarys_retriever_looks_for_words(index, library, module):
    pytest.importorskip(module)
    expected = index.search("music", 5, words=20.0)
    assert [hit.id for hit in expected] != [hit.id for hit in index.search("music", 5)]
    place = str(index.path) if library == "haystack" else index
    assert retrieved(library, place, words=20.0) == [hit.id for hit in expected]
