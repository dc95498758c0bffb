"""A real server on a real socket, with a tiny model and a small index, for each test that wants one of its own."""

import contextlib
import shutil
import socket
import threading
import time
from types import SimpleNamespace

import httpx
import pytest
import torch

pytest.importorskip("fastapi", reason="needs polyencoders[serve]")
pytest.importorskip("uvicorn", reason="needs polyencoders[serve]")

from polyencoders import BiEncoder, CrossEncoder, PolyEncoder
from polyencoders.index import Index
from polyencoders.serving.app import Server
from polyencoders.serving.run import PromptServer, configuration
from polyencoders.serving.settings import Settings

WORDS = ["tea", "bread", "rain", "train", "music", "garden", "winter", "letter", "kitchen", "river", "doctor", "paint"]


@pytest.fixture(scope="session")
def replies():
    """Sixty documents with metadata."""
    return [
        {
            "id": f"r{number}",
            "text": f"{WORDS[number % 12]} and {WORDS[(7 * number + 3) % 12]}, number {number}",
            "lang": ("en", "de")[number % 3 == 0],
            "year": 1990 + number,
        }
        for number in range(60)
    ]


@pytest.fixture(scope="session")
def models(tiny_backbone, tmp_path_factory):
    """Directories of a tiny poly-, bi- and cross-encoder."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, model in {
        "poly": PolyEncoder(tiny_backbone, m=3, normalize=True),
        "bi": BiEncoder(tiny_backbone, normalize=True),
        "cross": CrossEncoder(tiny_backbone),
        "raw": PolyEncoder(tiny_backbone, m=2, normalize=False),
    }.items():
        model.save_pretrained(str(folder / name))
    return folder


@pytest.fixture(scope="session")
def poly(models):
    """The poly-encoder, in this process."""
    return PolyEncoder(str(models / "poly"))


@pytest.fixture(scope="session")
def shared_index(models, replies, tmp_path_factory):
    """The folder of an index of the replies, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("index") / "replies"
    Index.create(folder, str(models / "poly")).add(replies)
    return folder


@pytest.fixture
def index(shared_index, tmp_path):
    """A copy of it, which a test may change."""
    return shutil.copytree(shared_index, tmp_path / "replies")


@contextlib.contextmanager
def running(settings):
    """A server in a thread, until the block ends."""
    at = socket.socket()
    at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    at.bind((settings.host, 0))
    port = at.getsockname()[1]
    application = Server(settings)
    server = PromptServer(configuration(application))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30, verify=False) as client:
            yield SimpleNamespace(url=url, port=port, client=client, application=application, server=server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def serve(models):
    """Start a server with settings of the test's own."""
    with contextlib.ExitStack() as stack:

        def start(**settings):
            settings.setdefault("page", False)
            if "index" not in settings:
                settings.setdefault("model", str(models / "poly"))
            return stack.enter_context(running(Settings(**settings)))

        yield start


@pytest.fixture(scope="session")
def reranking(models):
    """A server of the poly-encoder alone, for tests that change nothing."""
    with running(Settings(model=str(models / "poly"), bf16=False, page=False)) as server:
        yield server


@pytest.fixture(scope="session")
def one_vector(models):
    """A server of the bi-encoder, whose queries are one vector, and the model in this process."""
    with running(Settings(model=str(models / "bi"), bf16=False, page=False)) as server:
        yield server, BiEncoder(str(models / "bi"))


@pytest.fixture(scope="session")
def shared_searching(shared_index):
    """A server of the shared index, for tests that change nothing."""
    with running(Settings(index=shared_index, page=False)) as server:
        yield server


@pytest.fixture(scope="session")
def locked(shared_index):
    """A server of the shared index that asks for the key `a-secret`, for tests that change nothing."""
    with running(Settings(index=shared_index, page=False, key="a-secret")) as server:
        yield server


@pytest.fixture
def searching(serve, index):
    """A server of an index of its own."""
    return serve(index=index)
