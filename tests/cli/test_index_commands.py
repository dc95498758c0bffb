"""`polyencoders index` and `search` as people run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from polyencoders.index import Index

Run = Callable[..., tuple[int, str, str]]

MENU = [
    {"id": 1, "text": "Pancakes for breakfast.", "lang": "en", "price": 4},
    {"id": 2, "text": "Suppe am Mittag.", "lang": "de", "price": 6},
    {"id": 3, "text": "Tea is served at four.", "lang": "en", "price": 2},
]


@pytest.fixture
def menu(tmp_path: Path) -> Path:
    path = tmp_path / "menu.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MENU))
    return path


def _fails(run: Run, *arguments: object) -> str:
    code, _, err = run(*arguments)
    assert code == 1
    assert err.startswith("polyencoders: ")
    assert err.count("\n") == 1
    return err


def test_from_a_file_to_hits_and_back(run: Run, menu: Path, tiny_backbone: str, tmp_path: Path) -> None:
    code, out, err = run("index", "create", "menu", "--data", menu, "--model", tiny_backbone)
    assert code == 0, err
    assert "3 added" in out
    assert "3 texts encoded" in out

    code, out, err = run("search", "menu", "--query", "breakfast?", "--where", "price < 5", "--json")
    assert code == 0, err
    hits = [json.loads(line) for line in out.splitlines()]
    assert {hit["id"] for hit in hits} == {"1", "3"}
    assert hits[0]["metadata"]["lang"] == "en"
    assert hits[0]["score"] >= hits[1]["score"]

    code, out, err = run("search", "menu", "--query", "Hi!", "--query", "breakfast?", "-k", 1)
    assert code == 0, err
    assert "Proven" in out

    assert "1 added" not in run("index", "create", "menu", "--data", menu, "--model", tiny_backbone)[1]
    assert "3 were there" in run("index", "add", "menu", "--data", menu)[1]
    code, out, err = run("index", "delete", "menu", "--where", "lang = 'de'")
    assert code == 0, err
    assert "deleted 1; menu holds 2 documents" in out
    assert "deleted 1; menu holds 1 documents" in run("index", "delete", "menu", "--id", "3")[1]
    menu.write_text(json.dumps({**MENU[0], "text": "Waffles."}) + "\n" + json.dumps(MENU[1]) + "\n")
    assert "1 added, 1 replaced, 0 were there" in run("index", "add", "menu", "--data", menu)[1]

    code, out, err = run("index", "info", "menu")
    assert code == 0, err
    assert "lang (string), price (int64)" in out
    assert "BiEncoder" in out
    assert "PyTorch" in out
    assert "is whole" in run("index", "verify", "menu")[1]
    assert "MB now" in run("index", "compact", "menu", "--keep-days", 0)[1]
    assert "is whole" in run("index", "verify", "menu")[1]
    assert [row["text"] for row in Index.open(tmp_path / "menu").get(["1", "2"])] == ["Waffles.", "Suppe am Mittag."]


def test_vectors_that_exist_are_adopted(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from polyencoders import BiEncoder

    vectors = BiEncoder(tiny_backbone).encode_document([row["text"] for row in MENU])
    table = pa.Table.from_pylist([{**row, "emb": vector.tolist()} for row, vector in zip(MENU, vectors, strict=True)])
    pq.write_table(table, tmp_path / "menu.parquet")
    create = ["index", "create", "menu", "--vectors", "menu.parquet", "--vector-column", "emb"]
    code, out, err = run(*create, "--model", tiny_backbone)
    assert code == 0, err
    assert "3 documents, as they were" in out
    assert "Pancakes" in run("search", "menu", "--query", "breakfast?")[1]


def test_a_flipped_byte_is_named(run: Run, menu: Path, tiny_backbone: str, tmp_path: Path) -> None:
    run("index", "create", "menu", "--data", menu, "--model", tiny_backbone)
    damaged = next((tmp_path / "menu" / "documents.lance" / "data").glob("*.lance"))
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    code, out, err = run("index", "verify", "menu")
    assert code == 1
    assert damaged.name in out
    assert "problem" in err


def test_another_model_is_refused_and_its_documents_can_be_accepted(
    run: Run, menu: Path, tiny_backbone: str, tmp_path: Path
) -> None:
    from polyencoders import PolyEncoder

    run("index", "create", "menu", "--data", menu, "--model", tiny_backbone)
    PolyEncoder(tiny_backbone, m=2).save(tmp_path / "poly")
    said = _fails(run, "search", "menu", "--query", "a", "--model", "poly")
    assert "PolyEncoder in place of BiEncoder" in said
    assert "--accept-documents-from" in said
    accept = ["--model", "poly", "--accept-documents-from", tiny_backbone]
    code, out, err = run("search", "menu", "--query", "a", *accept)
    assert code == 0, err
    assert "Pancakes" in out
    assert "goes with --model" in _fails(run, "search", "menu", "--query", "a", *accept[2:])


def test_what_goes_wrong_is_one_line(run: Run, menu: Path, tiny_backbone: str) -> None:
    assert "no such index" in _fails(run, "search", "nowhere", "--query", "a")
    run("index", "create", "menu", "--data", menu, "--model", tiny_backbone)
    assert "No field named langg" in _fails(run, "search", "menu", "--query", "a", "--where", "langg = 'en'")
    assert "the text is empty" in _fails(run, "search", "menu", "--query", " ")
    assert "mode must be one of exact, fast" in _fails(run, "search", "menu", "--query", "a", "--mode", "slow")
    assert "no such file" in _fails(run, "index", "add", "menu", "--data", "missing.jsonl")
    assert "one of the two" in _fails(run, "index", "delete", "menu")
    assert "--ray goes with --data" in _fails(run, "index", "create", "other", "--ray", "auto")
    menu.write_text('{"text": "a"}\n{"txt": "b"}\n')
    assert "menu.jsonl:2" in _fails(run, "index", "add", "menu", "--data", menu)


def test_words_beside_vectors(run: Run, menu: Path, tiny_backbone: str) -> None:
    create = ["index", "create", "menu", "--data", menu, "--model", tiny_backbone, "--words-language"]
    assert "--words-language: the language of words must be one of none, danish" in _fails(run, *create, "latin")
    assert run(*create, "english")[0] == 0
    words = [json.loads(line)["text"] for line in menu.read_text().splitlines()][-1]
    code, out, err = run("search", "menu", "--query", words, "--words-weight", 50, "--json")
    assert code == 0, err
    hits = [json.loads(line) for line in out.splitlines()]
    assert hits[0]["text"] == words
    assert hits[0]["score"] > 10
    expected = Index.open("menu").search(words, words=50.0)
    assert [(hit["id"], hit["score"]) for hit in hits] == [(hit.id, hit.score) for hit in expected]
    code, out, err = run("search", "menu", "--query", words, "--words")
    assert "Proven" in out
    Path("lines.txt").write_text("Soup.\nTea.\nBread and tea.\n")
    code, out, err = run(
        "rank",
        tiny_backbone,
        "--query",
        "breads",
        "--documents",
        "lines.txt",
        "--words-weight",
        90,
        "--json",
        "--words-language",
        "english",
    )
    assert json.loads(out.splitlines()[0])["text"] == "Bread and tea.", err


def test_search_with_a_reranker(run: Run, menu: Path, tiny_backbone: str, tmp_path: Path) -> None:
    from polyencoders import CrossEncoder

    CrossEncoder(tiny_backbone).save_pretrained(str(tmp_path / "reader"))
    assert run("index", "create", "menu", "--data", menu, "--model", tiny_backbone)[0] == 0
    code, out, err = run("search", "menu", "--query", "tea?", "--rerank", "reader", "--rerank-top", 2)
    assert code == 0, err
    assert "The reranker read 2 of the best 3. Proven" in out
    code, out, err = run("search", "menu", "--query", "tea?", "--rerank", "reader", "--rerank-budget", "0ms")
    assert "The reranker read 0 of the best 3" in out
    expected = Index.open("menu").search("tea?", rerank="reader", rerank_weight=3.0)
    code, out, err = run("search", "menu", "--query", "tea?", "--rerank", "reader", "--rerank-weight", 3, "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [hit.id for hit in expected]
    assert "expected a time such as 100ms" in run("search", "menu", "--query", "a", "--rerank-budget", "soon")[2]
    assert "does not read query and document together" in _fails(
        run, "search", "menu", "--query", "a", "--rerank", tiny_backbone
    )


def test_long_documents_in_passages(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    rows = [{"id": 1, "text": "amber fjord " * 200}, {"id": 2, "text": "Tea is served at four."}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = run("index", "create", "long", "--data", file, "--model", tiny_backbone)
    assert code == 0, err
    assert "the rest is not seen" in out

    code, out, err = run("index", "add", "long", "--data", file, "--chunks")
    assert code == 0, err
    assert "passages" in out
    assert "the rest is not seen" not in out
    assert len(Index.open("long")) > 2

    code, out, err = run("search", "long", "--query", "amber fjord", "--json")
    assert code == 0, err
    assert [json.loads(line)["id"] for line in out.splitlines()] in (["1", "2"], ["2", "1"])
    assert "--chunks goes with --data" in _fails(run, "index", "create", "empty", "--model", tiny_backbone, "--chunks")
