"""A one-way cross-encoder reads a query once, and scores as one sequence does in which the query reads nobody."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyencoders import OneWayCrossEncoder, WarmCrossEncoder
from polyencoders.encoders.queries import DOCUMENT, QUERY
from polyencoders.models import one_way_cross_encoder

CONVERSATION = ("Any plans for the weekend?", "Hiking, if it stays dry.")
WORDS = ["tea", "the", "hills", "I", "see", "lake", "and"]


@pytest.fixture(scope="module")
def model(tiny_backbone):
    return OneWayCrossEncoder(tiny_backbone).eval()


@pytest.fixture(scope="module")
def whole(tiny_backbone):
    return WarmCrossEncoder(tiny_backbone).eval()


def in_one_sequence(whole, pairs):
    """Scores `(n, 1)` of whole sequences by transformers' own attention, with the mask that the equation has."""
    features = whole.preprocess(pairs)
    sides = features["sides"]
    unseen = (sides == QUERY)[:, None, :, None] & (sides == DOCUMENT)[:, None, None, :]
    features["attention_mask"] = features["attention_mask"].masked_fill(unseen, torch.finfo(torch.float32).min)
    return whole(features)["scores"]


texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@torch.no_grad()
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(st.sampled_from(["tea", "the lake and I", CONVERSATION]), texts), min_size=1))
def test_scores_are_those_of_one_sequence(model, whole, pairs):
    expected = in_one_sequence(whole, pairs)
    np.testing.assert_allclose(model.predict(pairs, batch_size=2), expected[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model(model.preprocess(pairs))["scores"], expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_one_sequence(model, whole):
    """What queries learn flows back from the documents that read them."""
    pairs = [
        (query, text) for query in (CONVERSATION, "tea") for text in ("Which trail?", "I see the lake and tea", "")
    ]
    in_one_sequence(whole, pairs).view(2, 3).log_softmax(1)[:, 0].sum().backward()
    expected = {name: weights.grad for name, weights in whole[0].named_parameters()}
    model.zero_grad()
    model(model.preprocess(pairs))["scores"].view(2, 3).log_softmax(1)[:, 0].sum().backward()
    for name, weights in model[0].named_parameters():
        if expected[name] is not None:
            torch.testing.assert_close(weights.grad, expected[name], rtol=1e-3, atol=1e-4)


def test_each_query_is_read_once_and_documents_of_like_length_together(model, monkeypatch):
    read = []
    reads = OneWayCrossEncoder.read
    monkeypatch.setattr(
        OneWayCrossEncoder, "read", lambda self, ids, *rest: read.append(tuple(ids.shape)) or reads(self, ids, *rest)
    )
    monkeypatch.setattr(one_way_cross_encoder, "TOKENS_AT_ONCE", 12)
    documents = ["tea " * length for length in (1, 4, 1, 1)] + [f"{word} lake" for word in WORDS]
    scores = model.rank("the hills", documents, batch_size=2)
    assert read == [(1, 4), (2, 6), (3, 4), (3, 4), (1, 3)], "the query, and each distinct document once"
    assert {hit["corpus_id"] for hit in scores} == set(range(len(documents)))


def test_predict_gives_what_it_is_asked_for_in_the_order_given(model):
    pairs = [("a", "tea"), (CONVERSATION, "Which trail?"), ("a", "the lake"), ("a", "tea"), (CONVERSATION, "tea")]
    alone = [float(model.predict(pair)) for pair in pairs]
    assert model.predict(pairs, batch_size=1) == pytest.approx(alone, abs=1e-5)
    assert model.predict(pairs, show_progress_bar=True) == pytest.approx(alone, abs=1e-5)
    tensor = model.predict(pairs, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    listed = model.predict(pairs, convert_to_numpy=False)
    assert isinstance(listed, list)
    assert [float(score) for score in listed] == tensor.tolist()
    squashed = model.predict(pairs, activation_fn=torch.nn.Sigmoid())
    np.testing.assert_allclose(squashed, tensor.sigmoid(), atol=1e-6)
    assert len(model.predict([])) == 0
    assert not model.preprocess([])
