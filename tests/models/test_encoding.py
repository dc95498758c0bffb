"""Encoding in batches of like length gives what the model's own methods give, in the order of the texts."""

import copy

import numpy as np
import pytest
import torch

from polyencoders.models.encoding import encode_documents, encode_queries, in_bf16

QUERIES = [
    "Tea?",
    ["Good morning.", "It rains.", "Then let us take the train."],
    "word " * 300,
    "a",
    "Any plans today?",
]
TEXTS = ["Tea in the garden.", "", "a " * 200, "A letter from the doctor.", "Rain."]


@pytest.mark.parametrize("prompt", ["", "represent: "])
@pytest.mark.parametrize("training", [True, False])
def test_vectors_are_the_models_own(dual, prompt, training, monkeypatch):
    monkeypatch.setattr("polyencoders.models.encoding.QUERY_TOKENS_AT_ONCE", 12)
    model = copy.deepcopy(dual)
    model.prompts = {"query": prompt, "document": prompt}
    theirs = model.encode_query(QUERIES), model.encode_document(TEXTS)
    model.train(training)
    ours = encode_queries(model, QUERIES), encode_documents(model, TEXTS, bf16=False)
    for given, expected in zip(ours, theirs, strict=True):
        assert given.dtype == np.float32
        assert given.shape == expected.shape
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    assert model.training == training
    assert torch.is_grad_enabled()


def test_what_is_no_query_is_refused(built):
    with pytest.raises(TypeError, match="7"):
        encode_queries(built("poly-learnt"), ["Tea?", 7])


def test_a_copy_in_bf16_is_as_near_as_autocast_is(dual):
    plain = encode_documents(dual, TEXTS, bf16=False)
    weights = {name: value.clone() for name, value in dual.state_dict().items()}
    half = in_bf16(dual)
    assert any(value.dtype == torch.bfloat16 for value in half.parameters())
    given = encode_documents(half, TEXTS, bf16=False)
    assert given.dtype == np.float32
    autocast = encode_documents(dual, TEXTS, bf16=True)
    largest = np.linalg.norm(plain, axis=1)
    assert 0 < (np.linalg.norm(given - plain, axis=1) / largest).max() < 0.05
    assert (np.linalg.norm(given - autocast, axis=1) / largest).max() < 0.05
    for name, value in dual.state_dict().items():  # the model itself is as it was
        assert value.dtype == weights[name].dtype
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
