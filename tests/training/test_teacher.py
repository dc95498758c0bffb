"""A teacher's scores are what the teacher says, are made once, and are another teacher's never."""

import numpy as np
import pytest
import sentence_transformers
import torch
from transformers import BertConfig, BertForSequenceClassification

from polyencoders.data import Example
from polyencoders.errors import ModelError, TrainingError
from polyencoders.training import Teacher

LISTS = [
    Example("a cat?", "It purrs.", ["It barks.", "Rain."]),
    Example(["Hi.", "A dog?"], "It barks.", ["It purrs.", "Snow, every day."]),
    Example("a cat?", "It mews.", ["It barks.", "It moos."]),
]


@pytest.fixture
def asked(monkeypatch):
    """The pairs that a teacher was asked for."""
    pairs = []
    computed = Teacher._computed
    monkeypatch.setattr(Teacher, "_computed", lambda self, some: pairs.extend(some) or computed(self, some))
    return pairs


def directly(model, lists, scale=1.0):
    pairs = [(list(one.query), text) for one in lists for text in (*one.positives, *one.negatives)]
    return np.asarray(model.predict(pairs)).reshape(len(lists), -1) * scale


@pytest.mark.parametrize(
    ("architecture", "settings", "scale"),
    [("cross", {}, 1), ("cross-warm", {}, 1), ("poly", {"normalize": True}, 20), ("bi", {}, 1), ("arc-ii", {}, 1)],
)
def test_scores_are_made_once(architecture, settings, scale, build, asked):
    model = build(architecture, **settings)
    told = []
    scores = Teacher(model, bf16=False, pairs_at_once=3).score(LISTS, lambda *done: told.append(done))
    assert scores == pytest.approx(directly(model, LISTS, scale), rel=1e-4, abs=1e-4)
    assert len(asked) == 8, "each pair once"
    assert told == [(0, 8), (3, 8), (6, 8), (8, 8)]
    again = Teacher(build(architecture, **settings), bf16=False).score(LISTS[::-1])
    assert np.array_equal(again, scores[::-1])
    assert len(asked) == 8
    more = [*LISTS, Example("new?", "Yes.", ["No.", "It barks."])]
    teacher = Teacher(model, bf16=False)
    assert np.array_equal(teacher.score(more)[:3], scores)
    assert len(asked) == 11
    assert len(list(teacher.store.path.parent.iterdir())) == 1


def test_another_teacher_is_asked_anew(build, asked):
    first = Teacher(build("cross"), bf16=False).score(LISTS)
    second = Teacher(build("cross", seed=1), bf16=False).score(LISTS)
    assert len(asked) == 16
    assert not np.allclose(first, second)
    Teacher(build("cross", turn_separator=" / "), bf16=False).score(LISTS)
    assert len(asked) == 24


def test_an_interruption_costs_only_what_was_not_written(build, asked, monkeypatch):
    model = build("cross")
    whole = directly(model, LISTS)
    predict = type(model).predict
    calls = []

    def full(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(self, *args, **kwargs)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(type(model), "predict", full)
        with pytest.raises(KeyboardInterrupt):
            Teacher(model, bf16=False, pairs_at_once=3).score(LISTS)
    asked.clear()
    assert Teacher(model, bf16=False).score(LISTS) == pytest.approx(whole, rel=1e-4, abs=1e-4)
    assert len(asked) == 2


def test_a_reranker_of_sentence_transformers_before_its_sigmoid(tiny_backbone, tmp_path):
    config = BertConfig.from_pretrained(tiny_backbone, num_labels=1)
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "plain")
    sentence_transformers.SentenceTransformer(tiny_backbone).tokenizer.save_pretrained(tmp_path / "plain")
    theirs = sentence_transformers.CrossEncoder(str(tmp_path / "plain"), device="cpu")
    theirs.save_pretrained(str(tmp_path / "theirs"))
    for name in ("plain", "theirs"):
        scores = Teacher(tmp_path / name, bf16=False).score(LISTS[:1])[0]
        pairs = [("a cat?", text) for text in ("It purrs.", "It barks.", "Rain.")]
        assert torch.sigmoid(torch.from_numpy(scores)).numpy() == pytest.approx(theirs.predict(pairs), abs=1e-5)


def test_what_is_no_teacher(build, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no such model directory"):
        Teacher(tmp_path / "nothing")
    with pytest.raises(TrainingError, match="a teacher is a CrossEncoder, ArcII, BiEncoder or PolyEncoder"):
        Teacher(object())
    model = build("cross")
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"CrossEncoder scores '.*' for .*: not a number"):
        Teacher(model, bf16=False).score(LISTS)


def test_damaged_scores_are_made_again(build, asked, caplog):
    model = build("cross")
    teacher = Teacher(model, bf16=False)
    scores = teacher.score(LISTS)
    teacher.store.close()
    teacher.store.path.write_bytes(b"half of")
    asked.clear()
    assert np.array_equal(Teacher(model, bf16=False).score(LISTS), scores)
    assert len(asked) == 8
    assert "cannot be kept there" in caplog.text
