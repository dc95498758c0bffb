"""Filters that the engine would not survive are refused; those that people write are not."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyencoders.errors import IndexingError
from polyencoders.index import Index
from polyencoders.index.filters import check_filter


@pytest.mark.parametrize(
    "where",
    [
        "lang = 'en' AND year >= 2020",
        " OR ".join(f"id = 'it''s {number}; -- /*'" for number in range(5000)),
        " AND ".join(["(year > 1 OR lang IS NOT NULL OR `a b` NOT IN ('x', 'y'))"] * 2000),
        f"id IN ({', '.join(map(repr, map(str, range(10_000))))})",
        f"year IN ({', '.join(map(str, range(-5000, 5000)))})",
        "lower(text) LIKE '%tea%' AND length(text) + 5 * year < 7000 AND at >= timestamp '2021-01-01'",
        " OR ".join(["year BETWEEN 1 AND 2"] * 3000),
    ],
)
def test_what_people_write(where):
    check_filter(where)


CHAINS = {
    "sums": lambda number: "year > " + "+".join(["1"] * number),
    "texts": lambda number: "lang = " + "||".join(["lang"] * number),
    "equals": lambda number: "=".join(["true"] * number),
    "casts": lambda number: "year" + "::int" * number + " > 1",
    "nulls": lambda number: "lang" + " IS NULL" * number,
    "likes": lambda number: "lang" + " LIKE 'a'" * number,
    "between": lambda number: "year" + " BETWEEN 1 AND 2" * number,
    "spread over nested parts": lambda number: "(" * 40 + "year" + ("+1" * (number // 40) + ")") * 40 + " > 1",
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_chains_that_end_the_process(chain):
    with pytest.raises(IndexingError, match="too intricate"):
        check_filter(chain(800))


def test_the_longest_chains_that_are_let_through_are_survived(run_python, tmp_path):
    longest = {
        name: max((make(number) for number in range(1, 600) if _passes(make(number))), key=len)
        for name, make in CHAINS.items()
    }
    (tmp_path / "filters").write_text(json.dumps(longest))
    code = """
import json, pathlib, sys, numpy as np
from polyencoders.errors import IndexingError
from polyencoders.index import Index
index = Index.from_vectors(sys.argv[1], np.eye(2, dtype=np.float32), [{"text": "a", "year": 1, "lang": "a"}, "b"])
for name, where in json.loads(pathlib.Path(sys.argv[2]).read_text()).items():
    print(name, file=sys.stderr, flush=True)  # the last of them is the culprit
    try:
        index.search(np.eye(2)[None, :1], where=where)
    except IndexingError:
        pass
print("alive")
"""
    assert run_python(code, tmp_path / "index", tmp_path / "filters").strip() == "alive"


def _passes(where):
    try:
        check_filter(where)
    except IndexingError:
        return False
    return True


@pytest.mark.parametrize("where", ["length(repeat('a', 2000000000)) > 1", "lpad (lang, 2000000000) = 'a'"])
def test_functions_that_take_all_memory(where):
    with pytest.raises(IndexingError, match="not for filters"):
        check_filter(where)
    check_filter("repeat = 1 AND lang = 'repeat(1)'")


def test_a_long_filter_is_not_repeated_whole():
    with pytest.raises(IndexingError) as error:
        check_filter("year + " * 20_000 + "1 > 0")
    assert len(str(error.value)) < 500


def test_a_slow_filter_is_in_nobodys_way(tmp_path, monkeypatch):
    documents = [{"text": "a", "year": 1}, {"text": "b", "year": 2}]
    index = Index.from_vectors(tmp_path / "x", np.eye(2, dtype=np.float32), documents)
    codes, table = np.eye(2)[None, :1], index.snapshot.table
    assert [hit.text for hit in index.search(codes, where="year = 1")[0]] == ["a"]
    begun, goes_on, asked, evaluate = threading.Event(), threading.Event(), [], table.row_ids

    def row_ids(where):
        asked.append(where)
        if where == "year = 2":
            begun.set()
            assert goes_on.wait(60)
        return evaluate(where)

    monkeypatch.setattr(table, "row_ids", row_ids)
    with ThreadPoolExecutor(3) as others:
        slow = [others.submit(index.search, codes, where="year = 2") for _ in range(2)]
        assert begun.wait(60)
        quick = others.submit(lambda: [len(index.search(codes, where=f"year {how} 1")[0]) for how in ("=", "<")])
        try:
            assert quick.result(60) == [1, 0]
        finally:
            goes_on.set()
        assert [[hit.text for hit in one.result(60)[0]] for one in slow] == [["b"], ["b"]]
    assert asked == ["year = 2", "year < 1"], "each is evaluated once"


def test_a_filter_that_failed_is_evaluated_again(tmp_path, monkeypatch):
    index = Index.from_vectors(tmp_path / "x", np.eye(2, dtype=np.float32), [{"text": "a", "year": 1}, "b"])
    with monkeypatch.context() as patch:
        patch.setattr(index.snapshot.table, "row_ids", lambda where: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index.search(np.eye(2)[None, :1], where="year = 1")
    assert len(index.search(np.eye(2)[None, :1], where="year = 1")[0]) == 1


def test_a_file_that_is_gone_is_no_fault_of_the_filter(tmp_path):
    folder = tmp_path / "prototypes of parse"  # what LanceDB says of a filter stands in the path
    index = Index.from_vectors(folder, np.eye(2, dtype=np.float32), [{"text": "a", "year": 1}, "b"])
    codes = np.eye(2)[None, :1]
    for where in ("text = 'version 3 no longer exists' AND", "text + 'Not found: documents.lance/a'"):
        with pytest.raises(IndexingError, match=r"^the filter .* cannot be used"):
            index.search(codes, where=where)
    for file in (folder / "documents.lance" / "data").iterdir():
        file.unlink()
    with pytest.raises(IndexingError, match=r"documents\.lance/data/\w+\.lance is not there"):
        index.search(codes, where="year = 1")
