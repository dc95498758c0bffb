"""Where PyTorch, transformers and sentence-transformers are not installed: searching, reranking, serving and the rest.

The environment is a folder of links to the packages that the core and the extras `index` and `serve` declare, with what
those need in turn, and nothing else. Python runs with that folder alone, so a package that is used and not declared is
missing here, too.
"""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import polyencoders
from polyencoders import PolyEncoder
from polyencoders.index import Index

pytest.importorskip("lancedb", reason="needs polyencoders[index]")
pytest.importorskip("fastapi", reason="needs polyencoders[serve]")
packaging = pytest.importorskip("packaging.requirements")

HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "scipy")
DOCUMENTS = ["Hold the power button for ten seconds.", "Send us a photo of the lid.", "Invoices are in your account."]
EXTRAS = ("index", "serve", "langchain", "haystack", "llamaindex")


def declared():
    """What this project declares to need: of the core, and of the extras that are tried."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs, waiting, seen = list(project["dependencies"]), list(EXTRAS), set()
    while waiting:
        extra = waiting.pop()
        for text in project["optional-dependencies"][extra] if extra not in seen else ():
            requirement = packaging.Requirement(text)
            if requirement.name == "polyencoders":
                waiting.extend(requirement.extras)
            else:
                needs.append(text)
        seen.add(extra)
    return needs


def closure(needs):
    """The installed distributions that these requirements come to, with what those need in turn."""
    found, seen, waiting = {}, set(), [packaging.Requirement(text) for text in needs]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            found[requirement.name] = one = metadata.distribution(requirement.name)
            theirs = map(packaging.Requirement, one.requires or ())
            waiting += [its for its in theirs if its.marker is None or its.marker.evaluate({"extra": extra})]
    return found.values()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the declared packages, and this one."""
    folder = tmp_path_factory.mktemp("without-pytorch")
    for one in closure(declared()):
        for file in one.files or ():
            top = file.parts[0]
            if top not in ("..", "/", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(one.locate_file(top)))
    (folder / "polyencoders").symlink_to(Path(polyencoders.__file__).parent)
    return folder


@pytest.fixture(scope="module")
def python(site):
    """Run Python there; gives what it printed and its exit status."""

    def run(*arguments):
        environment = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        }
        environment.update(PYTHONPATH=str(site), PYTHONNOUSERSITE="1", COLUMNS="200")
        command = [sys.executable, "-S", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)

    return run


@pytest.fixture(scope="module")
def made(tiny_backbone, tmp_path_factory):
    """A model, its export, and an index that PyTorch made."""
    from polyencoders.export import export_model

    folder = tmp_path_factory.mktemp("made")
    model = PolyEncoder(tiny_backbone, m=3)
    model.save_pretrained(str(folder / "model"))
    export_model(model, folder / "exported")
    Index.create(folder / "answers", str(folder / "model")).add(DOCUMENTS)
    (folder / "documents.txt").write_text("\n".join(DOCUMENTS))
    np.save(folder / "codes.npy", model.encode_queries(["it does not start"]))
    return folder


def test_rooms_are_imported_and_pytorch_is_not_there(python):
    code = f"""
import sys, json, polyencoders, polyencoders.index, polyencoders.serving.app, polyencoders.integrations.langchain
import polyencoders.integrations.haystack, polyencoders.integrations.llama_index, polyencoders.evaluation
import polyencoders.runtime, polyencoders.encoders, polyencoders.scoring, polyencoders.data
from importlib.util import find_spec
print(json.dumps([name for name in {HEAVY!r} if find_spec(name)]))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_an_index_is_opened_and_searched_with_arrays_and_with_texts(python, made):
    code = """
import json, sys
import numpy as np
from polyencoders.index import Index
folder = sys.argv[1]
plain = Index.open(f"{folder}/answers").search(np.load(f"{folder}/codes.npy"), k=3)[0]
index = Index.open(f"{folder}/answers", f"{folder}/exported")
text = index.search("it does not start", k=3)
added = index.add(["Nurses work at night."]).added
print(json.dumps([[hit.text for hit in plain], [hit.text for hit in text], plain.certified, added, len(index)]))
"""
    expected = Index.open(made / "answers").search(np.load(made / "codes.npy"), k=3)[0]
    done = python("-c", code, made)
    assert done.returncode == 0, done.stderr
    by_codes, by_text, certified, added, documents = json.loads(done.stdout)
    assert by_codes == by_text == [hit.text for hit in expected.hits]
    assert (certified, added, documents) == (True, 1, 4)


def test_the_commands_that_only_use_a_model_work(python, made):
    query = ("--query", "it does not start", "--json")
    done = python("-m", "polyencoders", "rank", made / "exported", "--documents", made / "documents.txt", *query)
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout.splitlines()[0])["text"]
    assert best in DOCUMENTS
    done = python("-m", "polyencoders", "search", made / "answers", "--model", made / "exported", *query)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["text"] == best


@pytest.mark.parametrize(
    "command",
    [
        ("rank", "{made}/model", "--query", "x", "--documents", "{made}/documents.txt"),
        ("train", "--data", "chitchat"),
        ("upgrade", "--index", "{made}/answers", "--data", "{made}/documents.txt"),
        ("export", "{made}/model", "--output", "{made}/never"),
        ("demo",),
    ],
    ids=lambda command: command[0],
)
def test_what_needs_pytorch_says_so_in_one_line(python, made, command):
    done = python("-m", "polyencoders", *(part.format(made=made) for part in command))
    said = " ".join(done.stderr.split())
    assert done.returncode == 1, said
    assert 'pip install "polyencoders[train]"' in said or 'pip install "polyencoders[demo]"' in said
    assert "Traceback" not in said


def test_the_server_answers(site, made):
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-S", "-m", "polyencoders", "serve", made / "exported"]
    command += ["--index", made / "answers", "--port", "0"]
    log = made / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(list(map(str, command)), env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        address = None
        for _ in range(600):
            assert server.poll() is None, log.read_text()
            if found := re.search(r"http://localhost:[1-9]\d*", log.read_text()):
                address = found[0]
                break
            time.sleep(0.1)
        assert address, log.read_text()

        def ask(path, body):
            request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode())
            request.add_header("content-type", "application/json")
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        ranked = ask("/v2/rerank", {"query": "it does not start", "documents": DOCUMENTS})["results"]
        assert sorted(one["index"] for one in ranked) == [0, 1, 2]
        assert ask("/search", {"query": "it does not start", "top_k": 2})["hits"]
        with urllib.request.urlopen(f"{address}/", timeout=60) as page:
            assert "<html" in page.read().decode()
    finally:
        server.terminate()
        server.wait(timeout=60)
