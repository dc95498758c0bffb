"""Hard negatives against the model's own ranking, written naively; and as columns of a batch."""

import numpy as np
import pytest
import torch

from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.training import HardNegatives, InBatchCrossEntropy, TrainingOptions, mine_hard_negatives, train
from polyencoders.training.negatives import Miner


def ranking(model, query, texts):
    """Texts by the model's own score, the highest first, and their scores."""
    vectors = torch.from_numpy(model.encode_document(texts)).float()
    scores = model.similarity(model.encode_query([list(query)], convert_to_tensor=True).cpu(), vectors)[0]
    order = scores.argsort(descending=True).tolist()
    return [texts[i] for i in order], {text: float(score) for text, score in zip(texts, scores, strict=True)}


def miner(model, examples, options, **arguments):
    """In float32, as the ranking above."""
    return Miner(model, examples, options, encode=lambda texts: model.encode_document(texts), **arguments)


@pytest.mark.parametrize("architecture", ["bi", "poly"])
@pytest.mark.parametrize(
    "options",
    [
        {"ranks": (0, 4), "margin": 1.0},
        {"ranks": (0, 4), "margin": None},
        {"ranks": (3, 7), "margin": 1.0},
        {"ranks": (0, 10), "margin": 0.9},
        {"ranks": (0, 10), "absolute_margin": 0.5},
    ],
)
def test_ranks_and_margins(architecture, options, build, examples):
    model = build(architecture)
    options = HardNegatives(number=4, **options)
    found = miner(model, examples, options).mine()
    texts = [example.positives[0] for example in examples]
    first, last = options.ranks
    full = 0
    for example in examples:
        (positive,) = example.positives
        order, scores = ranking(model, example.query, texts)
        wrong = [text for text in order if text != positive][first:last]
        own = scores[positive]
        most = own - 0.5 if options.absolute_margin else own - (1 - (options.margin or 0)) * abs(own)
        most = np.inf if options.margin is None else most
        allowed = [text for text in wrong if scores[text] <= most]
        negatives = found[example.query, positive]
        assert len(set(negatives)) == 4
        assert positive not in negatives
        if len(allowed) >= 4:
            full += 1
            assert set(negatives) <= set(allowed)
        else:
            assert set(allowed) <= set(negatives)
            assert not set(negatives) & (set(wrong) - set(allowed))
    assert full > 0 or options.margin == 0.9, "nothing was drawn"


def test_false_negatives_are_left_out(build):
    examples = [Example("tea?", ["Yes, tea.", "Tea it is."]), Example("tea?", "Always tea."), Example("milk?", "No.")]
    corpus = ["YES,  tea.", "always tea.", "Rain.", "Snow.", "Chess."]
    found = miner(build("poly"), examples, HardNegatives(number=3, ranks=(0, 9), margin=1.0), corpus=corpus).mine()
    for positive in ("Yes, tea.", "Tea it is.", "Always tea."):
        assert set(found[("tea?",), positive]) <= {"No.", "Rain.", "Snow.", "Chess."}
    assert "No." not in found[("milk?",), "No."]


def test_drawn_anew_and_the_same(build, examples):
    options = HardNegatives(number=2, ranks=(0, 20), margin=1.0)
    mined = [
        miner(build("poly"), examples, options, seed=seed).mine(step) for seed, step in ((0, 0), (0, 0), (0, 5), (1, 0))
    ]
    assert mined[0] == mined[1]
    assert mined[0] != mined[2]
    assert mined[0] != mined[3]


def test_as_examples_for_any_model(build, examples):
    mined = mine_hard_negatives(build("poly"), examples, HardNegatives(number=2, ranks=(0, 5)), corpus=["Not at all."])
    assert [example.query for example in mined] == [example.query for example in examples]
    assert all(len(example.negatives) == 2 for example in mined)
    train(build("cross"), mined, options=TrainingOptions(steps=1, batch_size=2, negatives=2))


def test_they_join_the_batch_as_columns(build, examples, monkeypatch):
    """What the loss is given is what explicit negatives would have been, and is mined anew."""
    seen = []
    forward = InBatchCrossEntropy.forward

    def spy(self, features, labels=None):
        features = list(features)
        seen.append([column["text_id"].clone() for column in features])
        return forward(self, features, labels)

    monkeypatch.setattr(InBatchCrossEntropy, "forward", spy)
    steps = []
    mine = Miner.mine
    monkeypatch.setattr(Miner, "mine", lambda self, step=0: steps.append(step) or mine(self, step))
    options = TrainingOptions(steps=5, batch_size=4, hard_negatives={"number": 3, "ranks": [0, 9], "refresh_every": 2})
    train(build("poly"), examples, options=options)
    assert steps == [0, 2, 4]
    assert [len(columns) for columns in seen] == [5] * 5
    for columns in seen:
        for row in zip(*(column.tolist() for column in columns[1:]), strict=True):
            assert len(set(row)) == 4


def test_they_make_the_loss_that_explicit_ones_would(build, examples):
    """One step with mined negatives moves the weights as one with the same negatives in the table."""
    options = HardNegatives(number=2, ranks=(0, 6))
    moved = build("poly")
    train(moved, examples, options=TrainingOptions(steps=1, batch_size=24, hard_negatives=options, bf16=False))
    explicit = build("poly")
    train(
        explicit,
        mine_hard_negatives(explicit, examples, options),
        options=TrainingOptions(steps=1, batch_size=24, bf16=False),
    )
    for (name, these), those in zip(moved.state_dict().items(), explicit.state_dict().values(), strict=True):
        assert np.allclose(these, those, atol=1e-6), name


def test_what_cannot_be_mined(build, examples):
    with pytest.raises(TrainingError, match="a CrossEncoder reads pairs and cannot search"):
        train(build("cross"), examples, options=TrainingOptions(hard_negatives={}, steps=1))
    with pytest.raises(
        TrainingError, match="30 hard negatives a query need at least 31 distinct documents, there are 24"
    ):
        mine_hard_negatives(build("bi"), examples, HardNegatives(number=30))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"number": 0}, "number must be a whole number of at least 1, got 0"),
        ({"ranks": [5, 2]}, "ranks must be two whole numbers"),
        ({"ranks": [0, 3]}, "with room for 4, got"),
        ({"margin": 1.5}, "margin is a fraction"),
        ({"margin": "x"}, "margin must be a number"),
        ({"refresh": 3}, "unknown key 'refresh'; known: number"),
        (4, "hard_negatives must be keys and values, got 4"),
    ],
)
def test_wrong_options(given, message):
    with pytest.raises(TrainingError, match=message):
        TrainingOptions(hard_negatives=given)
