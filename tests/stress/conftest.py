"""Stress tests in a short form. The commands in this folder run the long form."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# The processes that a stress test starts import its modules by name.
sys.path += [str(HERE), str(HERE.parents[1] / "benchmarks")]
collect_ignore = [file.name for file in HERE.glob("*.py") if not file.name.startswith("test_")]


@pytest.fixture(scope="session")
def tiny_model(tiny_backbone, tmp_path_factory):
    """The folder of a tiny poly-encoder."""
    import torch

    from polyencoders import PolyEncoder

    folder = tmp_path_factory.mktemp("models") / "poly"
    torch.manual_seed(0)
    PolyEncoder(tiny_backbone, m=3, normalize=True).save_pretrained(str(folder))
    return folder
