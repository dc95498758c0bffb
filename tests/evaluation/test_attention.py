"""The entropy that a report gives is that of the lists' own pairs."""

import numpy as np
import pytest

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.evaluation import CandidateTask
from polyencoders.evaluation.attention import attention

TASK = CandidateTask(["tea", ["Hello.", "rain?"]], [["Yes.", "No."], ["Snow.", "Yes.", "Every day."]], [[0], [2]])


@pytest.mark.parametrize("settings", [{"m": 3}, {"codes": "first", "m": 4, "temperature": 0.5}])
def test_of_each_list(settings, tiny_backbone):
    model = PolyEncoder(tiny_backbone, device="cpu", **settings)
    entropies, highest = [], []
    for query, documents in zip(TASK.queries, TASK.documents, strict=True):
        codes = model.encode_query([query])[0]
        there = codes[(codes != 0).any(1)]
        for vector in model.encode_document(documents):
            shares = np.exp((there @ vector).astype(np.float64) / model.temperature)
            weights = shares / shares.sum()
            entropies.append(-(weights * np.log(weights.clip(1e-30))).sum())
            highest.append(np.log(len(there)))
    assert attention(model, TASK) == pytest.approx((np.mean(entropies), np.mean(highest)), rel=1e-4)


def test_others_have_none(tiny_backbone):
    assert attention(BiEncoder(tiny_backbone, device="cpu"), TASK) is None
