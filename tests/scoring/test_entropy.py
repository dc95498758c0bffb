"""The entropy of the attention, against its definition pair by pair."""

import math

import pytest
import torch

from polyencoders.scoring import attention_entropy


@pytest.mark.parametrize("temperature", [1.0, 0.25, 3.0])
def test_pair_by_pair(temperature):
    generator = torch.Generator().manual_seed(0)
    codes, documents = torch.randn(3, 5, 4, generator=generator), torch.randn(7, 4, generator=generator)
    codes[1, 3:] = 0  # absent
    total = 0.0
    for query in codes:
        there = [code for code in query if code.any()]
        for document in documents:
            shares = [math.exp(float(code @ document) / temperature) for code in there]
            weights = [share / sum(shares) for share in shares]
            total -= sum(weight * math.log(weight) for weight in weights)
    assert attention_entropy(codes, documents, temperature).item() == pytest.approx(total / 21, rel=1e-5)


def test_its_ends():
    documents = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    alike = torch.ones(1, 4, 2)
    assert attention_entropy(alike, documents).item() == pytest.approx(math.log(4))
    assert attention_entropy(1e4 * torch.eye(2)[None], documents).item() == 0
    assert attention_entropy(torch.zeros(1, 4, 2), documents).item() == 0
    assert attention_entropy(alike.half(), documents.half()).item() == pytest.approx(math.log(4), rel=1e-3)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"got \(4, 2\) and \(3, 2\)"):
        attention_entropy(torch.ones(4, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="no pairs: 1 queries and 0 documents"):
        attention_entropy(torch.ones(1, 4, 2), torch.ones(0, 2))
