"""The definition of the score, against the paper's equation pair by pair and against the PyTorch version."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.scoring import attend, code_weights, present_codes, score_all_pairs, torch_score


def by_hand(codes, document, temperature):
    """`w = softmax(y_i . c / T)`, `y_ctx = sum_i w_i y_i`, `score = y_ctx . c`, in Python's own floats."""
    there = [[float(x) for x in code] for code in codes if code.any()]
    if not there:
        return 0.0
    products = [sum(x * float(c) for x, c in zip(code, document, strict=True)) for code in there]
    shares = [math.exp((s - max(products)) / temperature) for s in products]
    context = [
        sum(w / sum(shares) * code[i] for w, code in zip(shares, there, strict=True)) for i in range(len(document))
    ]
    return sum(x * float(c) for x, c in zip(context, document, strict=True))


@pytest.mark.parametrize("temperature", [1.0, 0.05, 3.0])
@pytest.mark.parametrize("element", [np.float32, np.float64])
def test_the_papers_equation(temperature, element):
    generator = np.random.default_rng(0)
    codes, documents = generator.standard_normal((4, 5, 6)), generator.standard_normal((7, 6))
    codes[1, 2:], codes[2] = 0, 0
    scores = score_all_pairs(codes.astype(element), documents.astype(element), temperature)
    assert scores.dtype == element
    expected = [[by_hand(query, document, temperature) for document in documents] for query in codes]
    np.testing.assert_allclose(scores, expected, atol=1e-5 if element is np.float32 else 1e-12)
    torchs = torch_score.score_all_pairs(torch.from_numpy(codes), torch.from_numpy(documents), temperature)
    np.testing.assert_allclose(torchs, expected, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), d=st.integers(1, 70), m=st.integers(1, 9))
def test_equal_documents_get_equal_scores(seed, n, d, m):
    generator = np.random.default_rng(seed)
    documents = generator.standard_normal((5, d)).astype(np.float32)
    places = generator.integers(5, size=n)
    scores = score_all_pairs(generator.standard_normal((2, m, d)).astype(np.float32), documents[places], 0.1)
    for one in range(5):
        assert all(len(np.unique(row[places == one])) <= 1 for row in scores)


def test_weights_and_attention_of_absent_codes():
    products, there = np.array([[1.0, 2.0, 0.0]]), np.array([[True, True, False]])
    np.testing.assert_allclose(code_weights(products, there).sum(-1), 1)
    assert code_weights(products, there)[0, 2] == 0
    assert attend(products, np.zeros((1, 3), dtype=bool)).tolist() == [0]
    assert present_codes(np.array([[[0.0, -1.0], [0.0, 0.0]]])).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("codes", "documents", "temperature", "says"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), 1.0, r"got \(2, 3\) and \(2, 3\)"),
        (np.ones((2, 1, 3)), np.ones((2, 4)), 1.0, r"got \(2, 1, 3\) and \(2, 4\)"),
        (np.ones((2, 1, 3)), np.ones((2, 3)), 0.0, "temperature must be above 0"),
    ],
)
def test_what_does_not_fit(codes, documents, temperature, says):
    with pytest.raises(ValueError, match=says):
        score_all_pairs(codes, documents, temperature)
