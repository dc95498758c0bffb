"""Models to test, each built once: every architecture, on a tiny random encoder, its new weights not at their start."""

import pytest
import torch

BUILD = {
    "bi": ("BiEncoder", {}),
    "bi-attention": ("BiEncoder", {"reduction": "attention", "m": 3, "shared_tower": False}),
    "poly-learnt": ("PolyEncoder", {"m": 3}),
    "poly-first": ("PolyEncoder", {"m": 3, "codes": "first", "shared_tower": False}),
    "poly-last": ("PolyEncoder", {"m": 3, "codes": "last", "maps": "shared", "normalize": True}),
    "poly-last-and-first": ("PolyEncoder", {"m": 3, "codes": "last-and-first", "document_map": True}),
    "cross": ("CrossEncoder", {}),
    "cross-warm": ("WarmCrossEncoder", {}),
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
