"""`polyencoders index`, `search` and `serve` on `s3://bucket/name`, as people run them, against a real S3 server."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyencoders.index import Index

pytest.importorskip("obstore", reason="needs polyencoders[s3]")
pytest.importorskip("lancedb", reason="needs polyencoders[index]")

Run = Callable[..., tuple[int, str, str]]

MENU = [
    {"id": 1, "text": "Pancakes for breakfast.", "lang": "en"},
    {"id": 2, "text": "Suppe am Mittag.", "lang": "de"},
    {"id": 3, "text": "Tea is served at four.", "lang": "en"},
]


@pytest.fixture
def menu(tmp_path: Path) -> Path:
    path = tmp_path / "menu.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MENU))
    return path


@pytest.fixture
def made(place: str, menu: Path, tiny_backbone: str) -> str:
    Index.create(place, tiny_backbone).add(MENU)
    return place


def test_from_a_file_to_hits_and_back(run: Run, place: str, menu: Path, tiny_backbone: str) -> None:
    def succeeds(*arguments: object) -> str:
        code, out, err = run(*arguments)
        assert code == 0, err
        return out

    assert "3 added" in succeeds("index", "create", place, "--data", menu, "--model", tiny_backbone)
    assert f"{place} is there already" in succeeds("index", "create", place, "--data", menu, "--model", tiny_backbone)
    menu.write_text(json.dumps({**MENU[0], "text": "Waffles."}) + "\n" + json.dumps({"id": 4, "text": "Beans."}) + "\n")
    assert "1 added, 1 replaced" in succeeds("index", "add", place, "--data", menu)
    assert f"deleted 1; {place} holds 3 documents" in succeeds("index", "delete", place, "--where", "lang = 'de'")
    assert f"deleted 1; {place} holds 2 documents" in succeeds("index", "delete", place, "--id", "3")
    assert "MB now" in succeeds("index", "compact", place, "--keep-days", 0)
    assert "is whole" in succeeds("index", "verify", place)
    about = succeeds("index", "info", place)
    assert place in about
    assert "lang (string)" in about
    hits = [json.loads(line) for line in succeeds("search", place, "--query", "breakfast?", "--json").splitlines()]
    assert {hit["text"] for hit in hits} == {"Waffles.", "Beans."}


def test_another_process_searches_it(made: str) -> None:
    command = [
        sys.executable,
        "-m",
        "polyencoders",
        "search",
        made,
        "--query",
        "tea?",
        "--where",
        "lang = 'de'",
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["2"]


COMMANDS: dict[str, list[str]] = {
    "create": ["index", "create", "PLACE", "--data", "MENU", "--model", "MODEL"],
    "add": ["index", "add", "PLACE", "--data", "MENU"],
    "delete": ["index", "delete", "PLACE", "--id", "1"],
    "compact": ["index", "compact", "PLACE"],
    "verify": ["index", "verify", "PLACE"],
    "info": ["index", "info", "PLACE"],
    "search": ["search", "PLACE", "--query", "tea?"],
    "serve": ["serve", "--index", "PLACE", "--no-page", "--port", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "another-secret", "refuses these credentials (SignatureDoesNotMatch)"),
        ("AWS_ACCESS_KEY_ID", "AKIAANOTHER", "refuses these credentials (InvalidAccessKeyId)"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "http://127.0.0.1:1 does not answer (AWS_ENDPOINT_URL"),
        ("bucket", "nobodys", "there is no bucket 'nobodys' at http://127.0.0.1"),
    ],
    ids=["secret", "key", "endpoint", "bucket"],
)
def test_what_is_wrong_is_one_line_without_secrets(
    run: Run,
    command: str,
    name: str,
    value: str,
    said: str,
    place: str,
    menu: Path,
    tiny_backbone: str,
    object_storage: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name == "bucket":
        place = place.replace(object_storage.BUCKET, value)
    else:
        monkeypatch.setenv(name, value)
    given = {"PLACE": place, "MENU": str(menu), "MODEL": tiny_backbone}
    code, out, err = run(*(given.get(one, one) for one in COMMANDS[command]))
    assert code == 1, out
    assert said in err
    assert place in err
    assert err.startswith("polyencoders: ")
    assert err.count("\n") == 1
    for secret in (object_storage.SECRET, "another-secret", "AKIAANOTHER"):
        assert secret not in out + err


def test_an_index_that_is_not_there(run: Run, place: str) -> None:
    code, _, err = run("search", place, "--query", "tea?")
    assert (code, err.count("\n")) == (1, 1)
    assert f"{place}: no such index; `polyencoders index create` makes one" in err


def test_an_upgrade_wants_to_know_where_the_model_goes(run: Run, made: str, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": f"{n}?", "positive": "Beans."}) + "\n" for n in range(40)))
    code, _, err = run("upgrade", "--index", made, "--data", pairs)
    assert code == 1
    assert f"{made} is in object storage, and a model is a folder" in err
    assert "--output" in err


def test_it_is_served_and_goes_on_when_the_storage_comes_back(made: str, object_storage: Any, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs polyencoders[serve]")
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    running = importlib.import_module("server_process").running
    sys.path.pop(0)
    query, new = {"query": "Tea?", "k": 5}, {"documents": [{"id": "new", "text": "Coffee."}]}
    log = tmp_path / "log"
    with (
        running("--index", made, log=log) as server,
        httpx.Client(base_url=server.url, timeout=120, verify=False) as client,
    ):

        def found() -> list[str]:
            answer = client.post("/search", json=query)
            assert answer.status_code == 200, answer.text
            return sorted(hit["id"] for hit in answer.json()["hits"])

        assert found() == ["1", "2", "3"]
        object_storage.kill()
        try:
            assert found() == ["1", "2", "3"]
            refused = client.post("/documents", json=new)
        finally:
            object_storage.start()
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert "cannot be reached" in refused.text
        assert "s3://" not in refused.text
        assert client.post("/documents", json=new).json()["added"] == 1
        assert found() == ["1", "2", "3", "new"]
        assert f"{object_storage.endpoint} does not answer" in server.output()
        assert object_storage.SECRET not in server.output()
    assert sorted(row["id"] for row in Index.open(made).get(["1", "new"])) == ["1", "new"]


def test_a_cluster_does_not_fill_a_bucket(run: Run, made: str, menu: Path) -> None:
    code, _, err = run("index", "add", made, "--data", menu, "--ray", "no-such-machine:1")
    assert code == 1
    assert "`polyencoders index add` without --ray adds to it" in " ".join(err.split())
