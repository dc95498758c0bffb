"""An index filled by a cluster of two nodes is the one that this machine makes, whatever ends on the way."""

import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

pytest.importorskip("ray", reason="needs polyencoders[ray]")
pytest.importorskip("lance", reason="needs polyencoders[ray]")

from polyencoders import PolyEncoder
from polyencoders.distributed.encoding import JobRunner
from polyencoders.errors import ModelError
from polyencoders.index import Index, verify

# In a process of its own, because a process joins one cluster and stays with it.
DRIVER = """
import json, sys
from pathlib import Path
import psutil, ray
from polyencoders.data import DocumentFile
from polyencoders.distributed import add
from polyencoders.errors import DataError
from polyencoders.index import Index, Watch

address, folder, nodes = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])

def workers():
    below = [child for node in nodes for child in psutil.Process(node).children(recursive=True)]
    return [child for child in below if child.name().startswith("ray::MapWorker")]

def kill_one(documents):
    global killed
    if killed is None:
        killed = workers()[0]
        killed.kill()
        killed.wait(30)

def interrupt(documents):
    raise KeyboardInterrupt

found, killed = {}, None
rows = DocumentFile(folder / "documents.jsonl")
found["killed"] = vars(add(Index.open(folder / "killed"), rows, address, watch=Watch(encoded=kill_one)))
index = Index.open(folder / "interrupted")
try:
    add(index, rows, address, watch=Watch(encoded=interrupt))
except KeyboardInterrupt:
    found["interrupted"] = len(index)
try:
    add(index, DocumentFile(folder / "bad.jsonl"), address)
except DataError as error:
    found["bad"] = str(error)
print(json.dumps(found))
ray.shutdown()
"""

DOCUMENTS = 10_000  # three chunks
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "lagoon", "meadow", "north", "ocean"]


def start_node(*arguments, folder):
    """A node as a process of its own, with one processor to give."""
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"),
        *("--node-ip-address", "127.0.0.1", "--object-store-memory", "80000000", "--num-cpus", "1", "--num-gpus", "0"),
        *("--include-log-monitor", "false", "--temp-dir", str(folder), *arguments),
    ]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def environment():
    # Where its user has a token, Ray's nodes would ask for it.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_AUTH_MODE": "disabled"}


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def nodes():
    """The address of a cluster of two nodes, and their processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A short path: the names of sockets in it may not be long.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = ("--head", "--port", str(port), "--include-dashboard", "false")
        started = [start_node(*head, folder=folder)]
        try:
            for _ in range(240):
                if listens(port):
                    break
                time.sleep(0.25)
            started.append(start_node("--address", f"127.0.0.1:{port}", folder=folder))
            yield f"127.0.0.1:{port}", [node.pid for node in started]
        finally:
            processes = [psutil.Process(node.pid) for node in started]
            processes += [child for process in processes for child in process.children(recursive=True)]
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()  # nothing of theirs is kept, and to end in order takes them half a minute
            for node in started:
                node.wait()


@pytest.fixture(scope="module")
def folder(tiny_backbone, tmp_path_factory):
    """A file of documents, one with a bad line, an index that this machine made, and empty ones."""
    folder = tmp_path_factory.mktemp("encoding")
    torch.manual_seed(0)
    PolyEncoder(tiny_backbone, m=3).save_pretrained(str(folder / "model"))
    generator = random.Random(0)
    texts = [f"{' '.join(generator.choices(WORDS, k=generator.randint(1, 4)))} {i}" for i in range(DOCUMENTS * 3 // 4)]
    rows = [{"id": f"d{i}", "text": generator.choice(texts), "year": i} for i in range(DOCUMENTS)]
    lines = [json.dumps(row) for row in rows]
    (folder / "documents.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "bad.jsonl").write_text("\n".join([*lines, '{"id": "x", "text": "", "year": 0}']), encoding="utf-8")
    for name in ("one", "killed", "interrupted"):
        Index.create(folder / name, folder / "model")
    added = Index.open(folder / "one").add(rows)
    assert added.encoded < added.added == DOCUMENTS  # some texts come again
    return folder


@pytest.fixture(scope="module")
def driven(nodes, folder):
    """What the driver found."""
    address, processes = nodes
    command = [sys.executable, "-c", DRIVER, address, str(folder), json.dumps(processes)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


def held(path):
    """All there is in an index, by id, to the last bit."""
    rows = Index.open(path).snapshot.table._table.to_arrow().to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def test_a_worker_that_dies_is_replaced_and_the_index_is_this_machines(driven, folder):
    assert held(folder / "killed") == held(folder / "one")
    assert (driven["killed"]["added"], driven["killed"]["replaced"]) == (DOCUMENTS, 0)
    assert verify(folder / "killed") == []
    assert Index.open(folder / "killed").version == 3  # empty; with the column; with all documents


def test_a_bad_line_is_refused_by_its_number(driven, folder):
    assert driven["bad"].startswith(f"{folder / 'bad.jsonl'}:{DOCUMENTS + 1}: ")


def test_the_command_goes_on_with_an_interrupted_run(driven, nodes, folder):
    assert driven["interrupted"] == 0
    command = [sys.executable, "-m", "polyencoders", "index", "add", str(folder / "interrupted")]
    command += ["--data", str(folder / "documents.jsonl"), "--ray", nodes[0]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    said = " ".join(done.stdout.split())
    assert re.search(r"[\d,]+ of 10,000 documents were encoded before: going on with the others", said)
    assert "10,000 added, 0 replaced, 0 were there" in said
    assert held(folder / "interrupted") == held(folder / "one")
    assert verify(folder / "interrupted") == []
    assert not (folder / "interrupted" / "staging").exists()


def test_a_worker_refuses_a_model_that_is_not_the_indexs(folder, monkeypatch):
    model = PolyEncoder(str(folder / "model"))
    context = SimpleNamespace(get_assigned_resources=dict)
    ray = SimpleNamespace(get=lambda sent: sent, get_gpu_ids=list, get_runtime_context=lambda: context)
    monkeypatch.setattr("polyencoders.distributed.encoding.use_threads", lambda number: None)
    monkeypatch.setattr("polyencoders.distributed.encoding.the_ray", lambda: ray)
    runner = JobRunner([model, {}], "0" * 32, None)
    with pytest.raises(ModelError, match=r"makes other documents \(fingerprint [0-9a-f]{8} in place of 00000000\)"):
        runner({"number": np.array([0])})
