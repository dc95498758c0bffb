"""A student moves towards its teacher; an interrupted run ends as one that was not; bad input is one clear line."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from polyencoders import PolyEncoder
from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.evaluation import evaluate, given_candidates
from polyencoders.training import Distillation, Teacher, TrainingOptions, compare_with_teacher, distill, train
from polyencoders.training.distill import candidate_lists

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
TEXTS = [f"{first} {second}" for first in WORDS for second in WORDS]
PAIRS = [Example(f"hello {text}", text) for text in TEXTS]
FEW = {"hard_negatives": {"number": 2, "ranks": [0, 8], "margin": None}, "random_negatives": 2}


def turned(model):
    """A model whose queries are turned by a map, which one like it can learn."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weights = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
        model.route("query")[2].linear.weight.copy_(weights)
    return model


def agreement(model, teacher):
    """The mean rank correlation with the teacher, over queries and lists that nobody was trained on."""
    queries, lists = [f"now {text}" for text in TEXTS[::2]], [TEXTS] * 32
    found = []
    for ours, theirs in zip(model.score_lists(queries, lists), teacher.score_lists(queries, lists), strict=True):
        found.append(np.corrcoef(ours.argsort().argsort(), theirs.argsort().argsort())[0, 1])
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("architecture", "settings", "weights", "freeze"),
    [
        ("bi", {"query_map": True, "normalize": True}, {"kl": 1.0, "cross_entropy": 0.0}, "backbone"),
        ("bi", {"reduction": "attention", "normalize": True}, {"kl": 1.0, "margin_mse": 0.1}, "backbone"),
        ("poly", {"m": 2, "normalize": True, "maps": "each"}, {"kl": 0.0, "margin_mse": 1.0}, "backbone"),
        ("poly", {"m": 2, "normalize": True, "maps": "each"}, {}, ()),
    ],
)
def test_the_students_ranking_moves_towards_the_teachers(architecture, settings, weights, freeze, build):
    teacher = turned(build("bi", query_map=True, normalize=True))
    student = build(architecture, **settings)
    before = agreement(student, teacher)
    options = TrainingOptions(
        steps=60,
        batch_size=32,
        learning_rate=2e-2 if freeze else 5e-3,
        freeze=freeze,
        bf16=False,
        distillation={**FEW, "random_negatives": 6, **weights},
    )
    result = distill(student, teacher, PAIRS, options=options)
    assert result.steps == 60
    assert agreement(student, teacher) > before + 0.15


class Interrupt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt


RUNS = {
    "poly": ("poly", {}, {}),
    "bi, frozen backbone": ("bi", {"document_map": True, "query_map": True}, {"freeze": "backbone"}),
    "attention, cached gradients": ("bi", {"reduction": "attention"}, {"mini_batch_size": 3}),
    "hard negatives mined anew": ("poly", {}, {"hard_negatives": {"number": 1, "ranks": [0, 8], "refresh_every": 2}}),
}


@pytest.mark.parametrize("run", RUNS)
def test_same_weights_after_an_interruption(run, build, examples, weights, assert_same, tmp_path, monkeypatch):
    architecture, settings, changes = RUNS[run]
    options = TrainingOptions(
        steps=6, batch_size=4, evaluate_every=2, candidates=5, learning_rate=1e-3, distillation=FEW, **changes
    )
    whole = build(architecture, **settings)
    distill(whole, build("cross"), examples[:20], examples[20:], tmp_path / "whole", options)
    folder = tmp_path / "interrupted"
    # First after the teacher has scored, then while the student learns; by then its new weights do not matter.
    teacher = Teacher(build("cross", seed=1), pairs_at_once=20)
    with monkeypatch.context() as stopped:
        stopped.setattr("polyencoders.training.teacher.gather_object", lambda mine: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            distill(build(architecture, **settings), teacher, examples[:20], examples[20:], folder, options)
    with pytest.raises(KeyboardInterrupt):
        distill(
            build(architecture, **settings),
            build("cross"),
            examples[:20],
            examples[20:],
            folder,
            options,
            callbacks=[Interrupt()],
        )
    with pytest.raises(TrainingError, match="interrupted run with other data or options"):
        distill(build(architecture, **settings), build("cross"), examples[1:20], (), folder, options)
    again = build(architecture, seed=3, **settings)
    result = distill(again, build("cross"), examples[:20], examples[20:], folder, options)
    assert result.steps == 6
    assert_same(weights(again), weights(whole))
    if run.startswith("poly"):
        mean, uniform = result.attention_entropy
        assert 0 < mean <= uniform == pytest.approx(np.log(again.m))
        assert "Entropy of the attention" in (folder / "README.md").read_text()
        assert "Distilled from" in (folder / "README.md").read_text()
        assert_same(weights(PolyEncoder(str(folder), device="cpu")), weights(again))
    assert not (folder / "checkpoints").exists()


def test_lists(build, examples):
    model = build("poly")
    examples = [Example(one.query, one.positives, ["my own"] if i % 2 else []) for i, one in enumerate(examples)]
    examples = [*examples, Example(examples[0].query, "Another right one.")]
    options = Distillation(**FEW)
    lists = candidate_lists(model, examples, options, corpus=["Not at all."])
    assert [one.query for one in lists] == [one.query for one in examples]
    for one, given in zip(lists, examples, strict=True):
        assert len(one.negatives) == 4
        assert one.negatives[: len(given.negatives)] == given.negatives
        texts = [text for text in [e.positives[0] for e in examples] if text not in one.positives]
        hard = one.negatives[len(given.negatives) : len(given.negatives) + 2]
        wrong = sorted(
            zip(model.score_lists([list(one.query)], [texts])[0], texts, strict=True), key=lambda scored: -scored[0]
        )
        assert set(hard) <= {text for _, text in wrong[:11]} | {"Not at all."}
    right = {"Another right one.", examples[0].positives[0]}
    assert not right & {text for one in (lists[0], lists[-1]) for text in one.negatives}
    assert candidate_lists(model, examples, options, seed=0) == candidate_lists(model, examples, options, seed=0)
    assert candidate_lists(model, examples, options, seed=0) != candidate_lists(model, examples, options, seed=1)
    alone = candidate_lists(model, examples[:4], Distillation(hard_negatives=None, random_negatives=3))
    assert {len(one.negatives) for one in alone} == {3}
    with pytest.raises(TrainingError, match="need more documents than there are: 4"):
        candidate_lists(model, examples[:4:2], Distillation(hard_negatives=None, random_negatives=4), ["a", "b"])


def test_what_cannot_be_distilled(build, examples):
    options = TrainingOptions(steps=1, batch_size=4, distillation=FEW)
    with pytest.raises(TrainingError, match="a CrossEncoder reads pairs: what is distilled is a bi- or poly-encoder"):
        distill(build("cross"), build("cross"), examples, options=options)
    student = build("bi")
    with pytest.raises(TrainingError, match="cannot be its own teacher"):
        distill(student, student, examples, options=options)
    with pytest.raises(TrainingError, match="no examples"):
        distill(student, build("cross"), [], options=options)
    with pytest.raises(TrainingError, match="needs a teacher's scores"):
        train(student, examples, options=options)
    scores = np.zeros((24, 1), dtype=np.float32)
    with pytest.raises(TrainingError, match="needs a teacher's scores"):
        train(student, examples, options=replace(options, distillation=None), teacher_scores=scores)
    with pytest.raises(TrainingError, match=r"expected a teacher's scores \(24, 1\).*got \(24, 3\)"):
        train(student, examples, options=options, teacher_scores=np.zeros((24, 3), dtype=np.float32))
    with pytest.raises(TrainingError, match="not a number"):
        train(student, examples, options=options, teacher_scores=scores + np.nan)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kl": -1}, "distillation: kl must be a number of at least 0, got -1"),
        ({"margin_mse": True}, "margin_mse must be a number"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"kl": 0}, "kl and margin_mse are both 0"),
        ({"random_negatives": -2}, "random_negatives must be a whole number of at least 0, got -2"),
        ({"random_negatives": 0, "hard_negatives": None}, "a list needs a wrong document"),
        ({"hard_negatives": {"numbr": 3}}, "hard_negatives: unknown key 'numbr'"),
        ({"teacher": ""}, "teacher must be a directory or a name"),
        ({"kll": 1}, "distillation: unknown key 'kll'; known: teacher, kl"),
        (4, "distillation must be keys and values, got 4"),
    ],
)
def test_wrong_options(given, message):
    with pytest.raises(TrainingError, match=message):
        TrainingOptions(distillation=given)


def test_negatives_for_a_loss_that_is_left_out():
    with pytest.raises(TrainingError, match="hard_negatives take part in the cross-entropy"):
        TrainingOptions(distillation={"cross_entropy": 0}, hard_negatives={})


def test_a_teacher_reads_what_the_steps_come_to(build, examples):
    twice = [Example(one.query, f"{one.positives[0]} Truly.") for one in examples]
    read = []
    teacher = Teacher(build("cross"))
    score = teacher.score
    teacher.score = lambda lists, told: read.append(lists) or score(lists, told)
    options = TrainingOptions(steps=2, batch_size=4, distillation=FEW)
    distill(build("poly"), teacher, [*examples, *twice], options=options, corpus=["Not at all."])
    (lists,) = read
    assert len(lists) == 8
    assert len({one.query for one in lists}) == 4, "a query comes with all its right answers"
    of_query = {one.query: {one.positives[0], other.positives[0]} for one, other in zip(examples, twice, strict=True)}
    drawn = set().union(*(of_query[one.query] for one in lists))
    assert not any(of_query[one.query] & set(one.negatives) for one in lists)
    assert any(set(one.negatives) - drawn - {"Not at all."} for one in lists), "answers of queries that were not drawn"
    distill(build("poly"), teacher, [*examples, *twice], options=options, corpus=["Not at all."])
    assert read[0] == read[1]
    distill(build("poly"), teacher, examples[:5], options=options)
    assert len(read[2]) == 5


def test_who_ranks_better_is_known_before(build):
    teacher, student = build("bi", normalize=True), turned(build("bi", query_map=True, normalize=True))
    listed = [Example(f"now {text}", text, candidates=TEXTS) for text in TEXTS]
    found = compare_with_teacher(student, Teacher(teacher), listed[:40], TrainingOptions())
    assert found.queries == 40
    for model, said in ((teacher, found.teacher), (student, found.student)):
        (value,) = evaluate(model, given_candidates(listed[:40]), ["MRR"]).metrics.values()
        assert said.mean == pytest.approx(value.mean, abs=1e-6)
    assert found.difference.mean == pytest.approx(found.teacher.mean - found.student.mean)
    assert found.difference.mean > 0
    assert compare_with_teacher(student, Teacher(teacher), listed, TrainingOptions()).queries == 50


def test_a_list_begins_with_the_examples_own_negatives_and_candidates(build):
    own = [
        Example(f"hello {text}", text, [TEXTS[i - 1]], [text, TEXTS[i - 1], TEXTS[i - 2]])
        for i, text in enumerate(TEXTS)
    ]
    lists = candidate_lists(build("bi"), own, Distillation(hard_negatives=None, random_negatives=4))
    for i, made in enumerate(lists):
        assert made.negatives[:2] == (TEXTS[i - 1], TEXTS[i - 2])
        assert len(set(made.negatives) - {TEXTS[i]}) == 4
