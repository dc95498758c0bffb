"""Cross-entropy over one right answer and sampled wrong ones, against a loop written from its definition."""

import pytest
import torch

from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.training import SampledCrossEntropy, losses

ANIMALS = ["a cat", "a dog", "a cow", "a hen", "a pig"]
EXAMPLES = [Example(["hello", animal], [f"I see {animal}", f"{animal}!"]) for animal in ANIMALS]


@pytest.fixture(
    params=[
        ("cross", {}),
        ("cross-warm", {}),
        ("cross-one-way", {}),
        ("arc-ii", {"query_length": 16, "document_length": 16}),
    ]
)
def model(request, build):
    architecture, settings = request.param
    return build(architecture, **settings).eval()


@pytest.fixture
def pairs_read(monkeypatch):
    """The pairs that losses have scored, in order."""
    read = []
    score = SampledCrossEntropy._score
    monkeypatch.setattr(SampledCrossEntropy, "_score", lambda self, pairs: read.extend(pairs) or score(self, pairs))
    return read


def columns(*rows):
    return [list(column) for column in zip(*rows, strict=True)]


def test_equals_the_definition(model, pairs_read):
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=3)
    batch = columns(*[(list(example.query), example.positives[1]) for example in EXAMPLES])
    torch.manual_seed(7)
    value = loss(batch).item()
    scores = model.predict([(query, text) for query, text in pairs_read], convert_to_tensor=True)
    rows = scores.view(len(EXAMPLES), 4)
    assert value == pytest.approx(-rows.log_softmax(1)[:, 0].mean().item(), abs=1e-5)
    assert [pairs_read[4 * i] for i in range(5)] == list(zip(*batch, strict=True)), "the right answer is the first"


def test_never_a_right_answer_and_never_one_twice(model, pairs_read):
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=8)
    loss(columns(*[(list(example.query), example.positives[0]) for example in EXAMPLES]))
    for i, example in enumerate(EXAMPLES):
        wrong = [text for _, text in pairs_read[9 * i + 1 : 9 * i + 9]]
        assert not set(wrong) & set(example.positives)
        assert len(set(wrong)) == 8


def test_right_answers_of_the_query_in_other_examples_are_known(model, pairs_read):
    split = [Example(example.query, [text]) for example in EXAMPLES for text in example.positives]
    loss = SampledCrossEntropy(model, split, negatives=8)
    loss(columns((["hello", "a cat"], "a cat!")))
    assert "I see a cat" not in [text for _, text in pairs_read]


def test_explicit_negatives_come_first(model, pairs_read):
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=3)
    loss(columns((["hello", "a cat"], "a cat!", "no", "never"), (["hello", "a dog"], "a dog!", "no", "a cat!")))
    wrong = [text for _, text in pairs_read]
    assert wrong[1:3] == ["no", "never"]
    assert wrong[5:7] == ["no", "a cat!"]
    assert len(set(wrong[5:8])) == 3


def test_explicit_negatives_beyond_n_and_right_answers_among_them_are_left_out(model, pairs_read):
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=2)
    loss(columns((["hello", "a cat"], "a cat!", "I see a cat", "no", "never", "nor this")))
    assert [text for _, text in pairs_read] == ["a cat!", "no", "never"]


def test_a_seed_draws_the_same(model):
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=3)
    batch = columns(*[(list(example.query), example.positives[0]) for example in EXAMPLES])
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(loss(batch).item())
    assert values[0] == values[1] != values[2]


def test_the_order_of_scores_is_the_order_of_pairs(model, monkeypatch):
    """Pairs are read by length, in passes of a few."""
    monkeypatch.setattr("polyencoders.training.losses.PAIRS_PER_PASS", 2)
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=3)
    pairs = [(["a"], "b " * n) for n in (5, 1, 9, 3, 7)]
    expected = torch.from_numpy(model.predict(pairs))
    torch.testing.assert_close(loss._score(pairs).detach(), expected, atol=1e-5, rtol=1e-4)


def test_of_few_documents_as_many_are_drawn_as_there_are(model, pairs_read, caplog):
    assert SampledCrossEntropy(model, EXAMPLES, negatives=8).negatives == 8
    assert not caplog.messages
    losses._say_fewer.cache_clear()
    _, loss = [SampledCrossEntropy(model, EXAMPLES, negatives=90) for _ in range(2)]
    assert caplog.messages == [
        "90 negatives a query are too many for the 10 distinct right answers of the training set: 8 are drawn"
    ]
    loss(columns((["hello", "a cat"], "a cat!")))
    assert len({text for _, text in pairs_read}) == len(pairs_read) == 9


def test_no_wrong_document_is_a_clear_error(model):
    with pytest.raises(TrainingError, match="2 distinct ones are too few, give more examples"):
        SampledCrossEntropy(model, [Example("a", ["b", "c"]), Example("d", "c")], negatives=7)
    with pytest.raises(TrainingError, match="negatives must be at least 1"):
        SampledCrossEntropy(model, EXAMPLES, negatives=0)
    with pytest.raises(TrainingError, match="negatives must be at least 1"):
        SampledCrossEntropy(model, EXAMPLES, negatives=0)


def test_empty_texts_stand_for_no_negative(model, pairs_read):
    loss = SampledCrossEntropy(model, EXAMPLES, negatives=2)
    loss(columns((["hello", "a cat"], "a cat!", "no", "")))
    assert [text for _, text in pairs_read][:2] == ["a cat!", "no"]
    assert pairs_read[2][1] in loss.documents
