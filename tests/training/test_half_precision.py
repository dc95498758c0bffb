"""A backbone stored in half precision is trained in float32."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from polyencoders import BiEncoder, CrossEncoder, PolyEncoder
from polyencoders.models import encode_documents
from polyencoders.training import (
    Distillation,
    PretrainingOptions,
    TrainingOptions,
    distill,
    pretrain,
    train,
)

STEPS = {"steps": 2, "batch_size": 4, "evaluate_every": 1, "negatives": 2, "candidates": 5, "learning_rate": 1e-3}
LISTS = Distillation(hard_negatives={"number": 2, "ranks": [0, 8], "margin": None}, random_negatives=2)


@pytest.fixture(params=[torch.float16, torch.bfloat16])
def half_backbone(request, tiny_backbone, tmp_path):
    path = tmp_path / "half"
    AutoModel.from_pretrained(tiny_backbone).to(request.param).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(path)
    return str(path)


def types(model):
    return {weights.dtype for weights in model.parameters()}


@pytest.mark.parametrize("freeze", [(), "backbone"])
@pytest.mark.parametrize("bf16", [False, None])
def test_training(freeze, bf16, half_backbone, tiny_backbone, examples, tmp_path):
    model = PolyEncoder(half_backbone, device="cpu", document_map=True)
    options = TrainingOptions(**STEPS, freeze=freeze, bf16=bf16)
    train(model, examples, examples, tmp_path / "trained", options)
    assert types(model) == {torch.float32}
    assert types(PolyEncoder(str(tmp_path / "trained"), device="cpu")) == {torch.float32}


def test_distillation(half_backbone, examples):
    student = BiEncoder(half_backbone, device="cpu", document_map=True)
    options = TrainingOptions(**STEPS, freeze="backbone", distillation=LISTS)
    distill(student, CrossEncoder(half_backbone, device="cpu"), examples, examples, options=options)
    assert types(student) == {torch.float32}


@pytest.mark.parametrize("from_scratch", [False, True])
def test_pretraining(from_scratch, half_backbone, tmp_path):
    talks = [[f"Word {i}.", f"Number {i}.", "Goodbye."] for i in range(12)]
    options = PretrainingOptions(steps=1, batch_size=2, max_length=16, validation_pairs=4)
    pretrain(talks, talks, tmp_path / "pretrained", half_backbone, from_scratch, options)
    assert types(AutoModel.from_pretrained(tmp_path / "pretrained")) == {torch.float32}


@pytest.mark.parametrize("bf16", [False, True])
def test_encoding_is_in_its_own_precision(bf16, half_backbone, tiny_backbone):
    texts = ["Tea?", "Pancakes, please."]
    half = BiEncoder(half_backbone, device="cpu")
    before = types(half)
    given = encode_documents(half, texts, bf16)
    assert types(half) == before
    exact = encode_documents(BiEncoder(tiny_backbone, device="cpu"), texts, bf16=False)
    cosines = (given * exact).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.99
