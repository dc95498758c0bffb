"""The entropy of the attention, against its definition pair by pair."""

import math

import numpy as np
import pytest

from polyencoders.scoring import attention_entropy


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_pair_by_pair(temperature):
    generator = np.random.default_rng(0)
    codes, documents = generator.standard_normal((3, 5, 4)), generator.standard_normal((7, 4))
    codes[1, 3:] = 0  # absent
    total = 0.0
    for query in codes:
        there = [code for code in query if code.any()]
        for document in documents:
            shares = [math.exp(float(code @ document) / temperature) for code in there]
            weights = [share / sum(shares) for share in shares]
            total -= sum(weight * math.log(weight) for weight in weights)
    assert attention_entropy(codes, documents, temperature) == pytest.approx(total / 21, rel=1e-5)


def test_its_ends():
    documents = np.eye(2)
    alike = np.ones((1, 4, 2))
    assert attention_entropy(alike, documents) == pytest.approx(math.log(4))
    assert attention_entropy(1e4 * np.eye(2)[None], documents) == 0
    assert attention_entropy(np.zeros((1, 4, 2)), documents) == 0
    assert attention_entropy(alike.astype(np.float16), documents.astype(np.float16)) == pytest.approx(
        math.log(4), rel=1e-3
    )


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(3, 2\)"):
        attention_entropy(np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="no pairs: 1 queries and 0 documents"):
        attention_entropy(np.ones((1, 4, 2)), np.ones((0, 2)))
