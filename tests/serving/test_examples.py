"""The documentation's examples that ask a server run against one; it listens elsewhere, all else is as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
ADDRESS = "http://localhost:8080"
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if ADDRESS in code]


def test_there_is_one_for_each_library():
    assert [code.partition("from ")[2].partition(" ")[0].partition(".")[0] for code in EXAMPLES] == [
        "langchain_cohere",
        "haystack",
        "llama_index",
    ]


@pytest.mark.parametrize("code", EXAMPLES, ids=["langchain", "haystack", "llama_index"])
def test_the_example_runs_as_it_stands(code, reranking, poly, capsys):
    exec(compile(code.replace(ADDRESS, reranking.url), "example", "exec"), {"__name__": "example"})
    texts = ["Send us a photo of the lid.", "Hold the power button for ten seconds."]
    best = poly.rank("it does not start", texts, top_k=1, return_documents=True)[0]["text"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == code.count(ADDRESS)
    assert all(best in line for line in lines)
