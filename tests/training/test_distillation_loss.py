"""Margins and lists learnt from a teacher, against their definitions in plain PyTorch, gradients and all."""

import pytest
import torch

from polyencoders.training import Distillation, DistillationLoss
from polyencoders.training.collator import text_id

ROWS = [
    ["a cat", "it purrs", "it barks", "rain", "no"],
    ["a dog", "it barks", "it purrs", "snow", "never"],
    [["hi", "a cow?"], "it moos loudly, every day", "hay", "it flies over the moon", "no"],
    ["a kitten", "it purrs", "tea", "it barks", "maybe"],
]
TEACHER = torch.tensor([[3.0, -1.0, 0.5, -4.0], [0.2, 0.9, -2.0, 0.0], [5.0, 1.0, 4.0, -3.0], [1.0, 1.5, 1.0, -1.0]])
WEIGHTS = {
    "divergence": {"kl": 1.0, "cross_entropy": 0.0},
    "margins": {"kl": 0.0, "margin_mse": 1.0, "cross_entropy": 0.0},
    "all three, T = 2": {"kl": 0.7, "margin_mse": 0.3, "cross_entropy": 0.5, "temperature": 2.0},
}


@pytest.fixture(params=[("bi", {}), ("bi", {"reduction": "attention"}), ("poly", {"m": 3, "normalize": True})])
def model(request, build):
    architecture, settings = request.param
    return build(architecture, **settings).eval()


def features(model, rows):
    columns = []
    for number, column in enumerate(zip(*rows, strict=True)):
        encoded = model.preprocess(list(column), task="document" if number else "query")
        columns.append({**encoded, "text_id": torch.tensor([text_id(text) for text in column])})
    return columns


def reference(model, rows, teacher, options):
    """Text by text, and every sum written out; nothing of sentence-transformers and no score of ours."""

    def encoded(text, task):
        return model(model.preprocess([text], task=task))["sentence_embedding"][0]

    def score(codes, document):
        inner = codes @ document if codes.ndim == 2 else (codes @ document)[None]
        weights = (inner / getattr(model, "temperature", 1.0)).exp()
        return (weights / weights.sum() * inner).sum() * (20 if model.normalize else 1)

    temperature, total = options.temperature, 0.0
    queries = [encoded(row[0], "query") for row in rows]
    documents = [[encoded(text, "document") for text in row[1:5]] for row in rows]
    for i, row in enumerate(rows):
        s, t = [score(queries[i], document) for document in documents[i]], teacher[i]
        margins = sum(((s[0] - s[j]) - (t[0] - t[j])) ** 2 for j in range(1, 4)) / 3
        p = (t / temperature).exp() / (t / temperature).exp().sum()
        q = torch.stack([x / temperature for x in s]).exp()
        q = q / q.sum()
        divergence = temperature**2 * sum(p[j] * (p[j] / q[j]).log() for j in range(4))
        own = s[0].exp()
        others = [k for k in range(len(rows)) if rows[k][1] != row[1]]
        wrong = [score(queries[i], documents[k][0]) for k in others]
        wrong += [score(queries[i], encoded(other[5], "document")) for other in rows if len(other) > 5]
        entropy = -(own / (own + sum(x.exp() for x in wrong))).log()
        total = total + options.kl * divergence + options.margin_mse * margins + options.cross_entropy * entropy
    return total / len(rows)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.grad is not None}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("mini_batch_size", [None, 3])
def test_loss_and_gradients_are_those_of_the_definitions(weights, mini_batch_size, model):
    options = Distillation(**WEIGHTS[weights])
    # A fifth document, mined while training, is the cross-entropy's alone.
    rows = [[*row, f"mined {i}"] for i, row in enumerate(ROWS)] if options.cross_entropy else ROWS
    expected = reference(model, rows, TEACHER, options)
    loss = DistillationLoss(model, options, mini_batch_size)(features(model, rows), TEACHER)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    theirs, ours = gradients(model, expected), gradients(model, loss)
    assert theirs.keys() == ours.keys()
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-4 * largest, rtol=1e-3, msg=name)


def test_nothing_to_learn_from_a_teacher_that_agrees(model):
    columns = features(model, ROWS)
    queries, *documents = [model(dict(column))["sentence_embedding"] for column in columns]
    agreed = torch.stack([model.similarity_pairwise(queries, column) for column in documents], 1) * model.score_scale
    options = Distillation(kl=1.0, margin_mse=1.0, cross_entropy=0.0)
    loss = DistillationLoss(model, options)(columns, agreed.detach() + 3.0)
    assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_scores_that_do_not_fit_are_refused(model):
    for labels in (None, TEACHER[:, 0], torch.ones(4, 9)):
        with pytest.raises(ValueError, match="expected a teacher's scores"):
            DistillationLoss(model, Distillation())(features(model, ROWS), labels)
