"""Filters that the engine would not survive are refused; those that people write are not."""

import json

import pytest

from polyencoders.errors import IndexingError
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
