"""Small models and a few pairs, on which training takes milliseconds."""

import pytest
import torch
from transformers import set_seed

from polyencoders import ArcII, BiEncoder, CrossEncoder, OneWayCrossEncoder, PolyEncoder, WarmCrossEncoder
from polyencoders.data import Example
from polyencoders.training.evaluators import RankingEvaluator

SUBJECTS = ["tea", "milk", "bread", "rain", "snow", "music", "chess", "trains", "birds", "maps", "soup", "ships"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Outputs of frozen backbones of this test alone."""
    monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def examples():
    """24 conversations, each with a reply of its own."""
    asked = [Example(["Hello.", f"Do you like {subject}?"], f"Yes, {subject} every day.") for subject in SUBJECTS]
    told = [Example([f"Tell me about {subject}."], f"There is much to say about {subject}.") for subject in SUBJECTS]
    return asked + told


@pytest.fixture(scope="session")
def build(tiny_backbone):
    """`build("poly", m=2)`: a small model, new weights the same each time."""

    def build(architecture, seed=0, **settings):
        classes = {
            "bi": BiEncoder,
            "poly": PolyEncoder,
            "cross": CrossEncoder,
            "cross-warm": WarmCrossEncoder,
            "cross-one-way": OneWayCrossEncoder,
            "arc-ii": ArcII,
        }
        set_seed(seed)
        return classes[architecture](tiny_backbone, device="cpu", **settings)

    return build


@pytest.fixture
def weights():
    """`weights(model)`: a copy of them, by name."""
    return lambda model: {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def assert_same():
    """`assert_same(weights, others)`: every bit of them."""

    def assert_same(these, those):
        assert these.keys() == those.keys()
        assert [name for name in these if not torch.equal(these[name], those[name])] == []

    return assert_same


@pytest.fixture
def rigged(monkeypatch):
    """`rigged([0, 0.5, 0.4])`: what validation gives from now on, the value before training first."""

    def rigged(values):
        left = list(values)
        monkeypatch.setattr(
            RankingEvaluator, "__call__", lambda self, *args, **kwargs: {self.primary_metric: left.pop(0)}
        )

    return rigged
