"""Groups of like length: the same outputs and gradients, from fewer tokens."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.base.modules import Transformer

from polyencoders import BiEncoder, CrossEncoder, PolyEncoder, WarmCrossEncoder
from polyencoders.data import Example
from polyencoders.training import TrainingOptions, train
from polyencoders.training.grouping import cuts, grouped_by_length

TEXTS = ["Yes.", "It rains. " * 30, "No!", "Do you like music, or chess?", "Birds sing. " * 20, "Soup", "Hello. " * 28]
QUERIES = [["Hi."], ["Hello.", "What is the weather like? " * 9], "And?", "Who? " * 25, ["a", "b"], "x", "Tell me all."]
MODELS = {
    "bi": (BiEncoder, {}),
    "bi-max": (BiEncoder, {"reduction": "max"}),
    "bi-attention": (BiEncoder, {"reduction": "attention"}),
    "poly": (PolyEncoder, {"m": 3}),
    "poly-last": (PolyEncoder, {"m": 3, "codes": "last"}),
    "cross": (CrossEncoder, {}),
    "cross-warm": (WarmCrossEncoder, {}),
}


@given(st.lists(st.integers(0, 512), max_size=60), st.integers(0, 300))
def test_every_cut_saves_more_than_it_costs(lengths, least):
    lengths = sorted(lengths, reverse=True)
    places = cuts(lengths, least)
    assert places == sorted({place for place in places if 0 < place < len(lengths)})
    ends = [0, *places, len(lengths)]
    padded = sum(lengths[start] * (end - start) for start, end in pairwise(ends) if end > start)
    assert padded + least * len(places) <= (lengths[0] * len(lengths) if lengths else 0) - len(places)


def test_no_cut_more_would_save():
    lengths = sorted([3, 90, 17, 88, 64, 5, 5, 41, 30, 8], reverse=True)
    ends = [0, *cuts(lengths, 20), len(lengths)]
    for start, end in pairwise(ends):
        assert all((lengths[start] - lengths[place]) * (end - place) <= 20 for place in range(start, end))


@pytest.fixture(params=MODELS)
def model(request, backbone):
    architecture, settings = MODELS[request.param]
    return architecture(backbone, device="cpu", **settings).eval()


@pytest.fixture
def computed(monkeypatch):
    """`computed(model)`: a list to which the shape of every batch that its transformer computes is added."""

    def watch(model):
        transformer = next(module for module in model.modules() if isinstance(module, Transformer))
        shapes, forward = [], transformer.model.forward

        def watched(**features):
            shapes.append(features["input_ids"].shape)
            return forward(**features)

        monkeypatch.setattr(transformer.model, "forward", watched)
        return shapes

    return watch


def outputs_and_gradients(model):
    model.zero_grad()
    if isinstance(model, CrossEncoder | WarmCrossEncoder):
        outputs = model(model.preprocess(list(zip(QUERIES, TEXTS, strict=True))))["scores"]
    else:
        sides = [model.preprocess(texts, task=task) for task, texts in (("query", QUERIES), ("document", TEXTS))]
        outputs = model.similarity(*(model(features)["sentence_embedding"] for features in sides))
    outputs.float().pow(2).sum().backward()
    weights = {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.grad is not None}
    return outputs.detach(), weights


def test_outputs_and_gradients_are_those_of_the_whole_batch(model, computed):
    whole, whole_gradients = outputs_and_gradients(model)
    seen = computed(model)
    with grouped_by_length(model):
        grouped, gradients = outputs_and_gradients(model)
    assert len({width for _, width in seen}) > 2
    assert grouped.shape == whole.shape
    torch.testing.assert_close(grouped, whole, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == whole_gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in whole_gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole_gradients[name], rtol=1e-3, atol=1e-5 * largest, msg=name)
    seen.clear()
    again, _ = outputs_and_gradients(model)
    assert len(seen) <= 2, "only for a while"
    assert torch.equal(again, whole)


def test_padding_on_the_left_is_taken_whole(backbone):
    model = BiEncoder(backbone, device="cpu").eval()
    features = model.preprocess(TEXTS, task="document")
    features = {
        name: value.flip(1) if torch.is_tensor(value) and value.ndim == 2 else value for name, value in features.items()
    }
    whole = model(dict(features))["sentence_embedding"]
    with grouped_by_length(model):
        assert torch.equal(model(dict(features))["sentence_embedding"], whole)


@pytest.mark.parametrize("architecture", ["bi", "cross-warm"])
def test_training_computes_little_padding(build, examples, computed, architecture):
    longer = [Example([*one.query, "and so on " * 20], one.positives[0]) for one in examples[:4]]
    model = build(architecture)
    made, preprocess = [], model.preprocess

    def watched(*arguments, **keywords):
        features = preprocess(*arguments, **keywords)
        made.append(features["input_ids"].numel())
        return features

    model.preprocess = watched
    shapes = computed(model)
    train(model, longer + examples[4:], options=TrainingOptions(steps=2, batch_size=24, negatives=1))
    assert 0 < sum(rows * width for rows, width in shapes) < 0.7 * sum(made)
