"""Tiny models and small corpora that are laid out and skipped through as large ones are; the score, written naively."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path

import numpy as np
import obstore
import pytest
import torch

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "lagoon", "meadow", "north", "ocean"]


def score(codes, vectors, temperature=1.0):
    """Equation 2 for one query `(m, d)` and documents `(n, d)`, in float64; a code of zeros is absent."""
    codes, vectors = np.asarray(codes, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    codes = codes[(codes != 0).any(1)]
    if not len(codes):
        return np.zeros(len(vectors))
    products = vectors @ codes.T
    weights = np.exp((products - products.max(1, keepdims=True)) / temperature)
    return (weights * products).sum(1) / weights.sum(1)


@pytest.fixture(scope="session")
def naive_score():
    return score


class Truth:
    """What an index ought to hold: a vector, a text and metadata by id."""

    def __init__(self):
        self.documents = {}

    def __len__(self):
        return len(self.documents)

    def put(self, rows, vectors):
        for row, vector in zip(rows, vectors, strict=True):
            metadata = {name: value for name, value in row.items() if name not in ("id", "text") and value is not None}
            self.documents[row["id"]] = (vector, row["text"], metadata)

    def drop(self, unwanted):
        gone = [id for id, (_, _, metadata) in self.documents.items() if unwanted(id, metadata)]
        for id in gone:
            del self.documents[id]
        return len(gone)

    def scores(self, codes, temperature=1.0, keep=lambda metadata: True):
        """Of one query with every document that is kept, by id."""
        kept = {id: vector for id, (vector, _, metadata) in self.documents.items() if keep(metadata)}
        if not kept:
            return {}
        return dict(zip(kept, score(codes, np.stack(list(kept.values())), temperature).tolist(), strict=True))

    def check_hits(self, answer, scores):
        """Whatever was found is there, once, with its own score, text and metadata, best first."""
        ids = [hit.id for hit in answer]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(scores)
        for hit in answer:
            _, text, metadata = self.documents[hit.id]
            assert (hit.text, hit.metadata) == (text, metadata)
        np.testing.assert_allclose([hit.score for hit in answer], [scores[id] for id in ids], rtol=1e-9, atol=1e-12)
        assert [(-hit.score, hit.id) for hit in answer] == sorted((-hit.score, hit.id) for hit in answer)

    def check_best(self, answer, scores, k):
        """They are the best: of those that score the same, any."""
        self.check_hits(answer, scores)
        best = sorted(scores.values(), reverse=True)[:k]
        np.testing.assert_allclose([hit.score for hit in answer], best, rtol=1e-9, atol=1e-12)

    def check_bound(self, answer, scores):
        """No document that is not among the hits scores above the bound."""
        found = {hit.id for hit in answer}
        others = [value for id, value in scores.items() if id not in found]
        if not others:
            return
        assert max(others) <= answer.bound + 1e-12 + 1e-9 * abs(answer.bound)
        if answer.hits:
            assert max(others) - answer.hits[-1].score <= answer.error + 1e-9


@pytest.fixture
def truth():
    return Truth()


@pytest.fixture(scope="session")
def new_truth():
    return Truth


def make_small(monkeypatch, laid_out_from=200, least=32):
    monkeypatch.setattr("polyencoders.index.index.LAID_OUT_FROM", laid_out_from)
    monkeypatch.setattr("polyencoders.index.searching.LEAST", least)
    monkeypatch.setattr("polyencoders.index.neighbourhoods.DOCUMENTS_IN_A_CLUSTER", 100)


@pytest.fixture
def small(monkeypatch):
    """From 200 documents there is a layout, and fast search leaves out what it can."""
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def small_for_all():
    """The same, for the indexes that a file's tests share."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(monkeypatch)
        yield


@pytest.fixture(scope="session")
def texts():
    """So many different texts."""

    def some(number, seed=0):
        generator = np.random.default_rng(seed)
        return [f"{' '.join(generator.choice(WORDS, 4))} {seed} {i}" for i in range(number)]

    return some


@pytest.fixture(scope="session")
def build(tiny_backbone):
    """A new bi- or poly-encoder: a test may change it."""
    import polyencoders

    def new(architecture, path=None, **settings):
        torch.manual_seed(0)
        return getattr(polyencoders, architecture)(path or tiny_backbone, **settings)

    return new


@pytest.fixture(scope="session")
def poly(build):
    """A poly-encoder, the same for every test: not to be changed."""
    return build("PolyEncoder", m=3)


@pytest.fixture(scope="session")
def bi(build):
    """A bi-encoder with the same document side: not to be changed."""
    return build("BiEncoder")


@pytest.fixture(scope="session")
def vectors_of():
    """The stored vectors by id, read from the outside: the score of a unit vector is a document's number there."""

    def read(index):
        dimension = index.info().dimension
        vectors = {}
        for place, answer in enumerate(index.search(np.eye(dimension), k=max(1, len(index)))):
            for hit in answer:
                vectors.setdefault(hit.id, np.zeros(dimension))[place] = hit.score
        return vectors

    return read


class ObjectStorage:
    """A real S3 server (SeaweedFS) on this machine, its own for the tests that ask for it."""

    KEY, SECRET, BUCKET = "tester", "a-secret-that-nobody-may-print", "shop"

    def __init__(self, folder):
        self.folder = folder
        ports = iter(free_ports(8))
        at = {name: next(ports) for name in ("master", "volume", "filer", "s3")}
        identity = {"credentials": [{"accessKey": self.KEY, "secretKey": self.SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "tests", **identity}]}))
        (folder / "data").mkdir()
        command = [shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")]
        command += ["server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += [f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false", "-master.telemetry=false"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
        for name, port in at.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={next(ports)}"]
            command += [f"-{name}.localSocket={folder / name}.sock"] if name in ("filer", "s3") else []
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        self.options = {
            "aws_access_key_id": self.KEY,
            "aws_secret_access_key": self.SECRET,
            "aws_endpoint": f"http://127.0.0.1:{at['s3']}",
        }

    def store(self, bucket=BUCKET):
        """The bucket, as another client of it sees it."""
        from obstore.store import S3Store

        return S3Store(bucket, config=self.options, client_options={"allow_http": True})

    def start(self):
        """Wait until it answers, and make the bucket."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            try:
                # The path of an empty name below a bucket is the bucket's own: a put there makes it.
                address = obstore.sign(self.store(), "PUT", "", timedelta(minutes=1))
                urllib.request.urlopen(urllib.request.Request(address, method="PUT"), timeout=10).read()
                obstore.put(self.store(), "ready", b"")
                obstore.delete(self.store(), "ready")
                return
            except (OSError, obstore.exceptions.BaseError):
                time.sleep(0.2)
        raise AssertionError((self.folder / "log").read_text()[-3000:])


def free_ports(number):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory):
    """A running server with an empty bucket."""
    server = ObjectStorage(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        yield server
    finally:
        server.process.kill()
        server.process.wait()
