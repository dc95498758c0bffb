"""Why a document has its score, against the equations as plain loops."""

import math

import numpy as np
import pytest

from polyencoders import PolyEncoder
from polyencoders.models.query_reading import read_query
from polyencoders.serving.explaining import NEARLY_EVEN, explain

DOCUMENTS = ["tea and rain", "a letter", "music in the garden"]
QUERIES = ["Any tea?", ["Hello!", "It rains.", "Would you like some music then?"], ""]


def naive(codes, document, temperature):
    """Inner products and weights, of the codes that are not all zeros."""
    products = [sum(a * b for a, b in zip(code, document, strict=True)) for code in codes]
    there = [any(code) for code in codes]
    exponentials = [math.exp(s / temperature) if has else 0.0 for s, has in zip(products, there, strict=True)]
    return products, [e / sum(exponentials) for e in exponentials], sum(there)


@pytest.mark.parametrize("codes", ["learnt", "first", "last", "last-and-first"])
@pytest.mark.parametrize("query", QUERIES, ids=["text", "conversation", "empty"])
@pytest.mark.parametrize("normalize", [True, False])
def test_weights_score_and_words(tiny_backbone, codes, query, normalize):
    model = PolyEncoder(tiny_backbone, m=5, codes=codes, normalize=normalize)
    reading = read_query(model, query)
    vectors = model.encode_document(DOCUMENTS)
    scores = model.similarity(model.encode_query([query]), vectors)[0]
    for reason, vector, score in zip(explain(reading, vectors, model.temperature), vectors, scores, strict=True):
        products, weights, present = naive(reading.codes.tolist(), vector.tolist(), model.temperature)
        np.testing.assert_allclose(reason.inner_products, products, atol=1e-5)
        np.testing.assert_allclose(reason.weights, weights, atol=1e-5)
        assert reason.score == pytest.approx(float(score), abs=1e-5)
        assert reason.mean == pytest.approx(sum(products) / present, abs=1e-5)
        entropy = -sum(w * math.log(w) for w in weights if w > 0)
        assert reason.evenness == pytest.approx(entropy / math.log(present) if present > 1 else 1.0, abs=1e-4)
        words = [
            sum(w * row[j] for w, row in zip(weights, reading.shares, strict=True)) for j in range(len(reading.words))
        ]
        np.testing.assert_allclose(reason.words, words, atol=1e-5)
        assert sum(reason.words) == pytest.approx(1, abs=1e-4)


def test_codes_that_are_alike_are_said_to_be(tiny_backbone):
    model = PolyEncoder(tiny_backbone, m=4)
    reading = read_query(model, "tea")
    alike = reading._replace(codes=np.repeat(reading.codes[:1], 4, axis=0))
    document = model.encode_document(["tea"])
    (reason,) = explain(alike, document, 1.0)
    assert reason.nearly_even
    assert reason.evenness == pytest.approx(1)
    apart = reading._replace(codes=np.eye(4, document.shape[1], dtype=np.float32) * 50)
    (reason,) = explain(apart, np.eye(1, document.shape[1], dtype=np.float32), 1.0)
    assert reason.evenness < NEARLY_EVEN
    assert np.argmax(reason.weights) == 0
