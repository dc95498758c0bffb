"""Validation while training: the best checkpoint is what remains, and a run that no longer improves stops."""

import pytest
import torch
from transformers import TrainerCallback

from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, train
from polyencoders.training.evaluators import FEW_DOCUMENTS, RankingEvaluator

OPTIONS = {"batch_size": 8, "evaluate_every": 2, "learning_rate": 1e-3, "negatives": 2, "candidates": 5}


class Snapshots(TrainerCallback):
    """The weights after each step."""

    def __init__(self):
        self.after = {}

    def on_step_end(self, args, state, control, model, **kwargs):
        self.after[state.global_step] = {name: weights.clone() for name, weights in model.state_dict().items()}


@pytest.fixture
def tasks(monkeypatch):
    """The lists that were ranked."""
    seen = []
    call = RankingEvaluator.__call__
    monkeypatch.setattr(
        RankingEvaluator,
        "__call__",
        lambda self, *args, **kwargs: seen.append(self.task) or call(self, *args, **kwargs),
    )
    return seen


@pytest.mark.parametrize("architecture", ["poly", "cross"])
def test_the_best_checkpoint_is_kept(architecture, build, examples, weights, assert_same, rigged):
    rigged([0.3, 0.4, 0.9, 0.1, 0.2, 0.3])
    model, snapshots = build(architecture), Snapshots()
    options = TrainingOptions(steps=10, **OPTIONS)
    result = train(model, examples[:16], examples[16:], options=options, callbacks=[snapshots])
    assert (result.steps, result.best_step, result.before, result.after) == (10, 4, 0.3, 0.9)
    assert result.history == [(2, 0.4), (4, 0.9), (6, 0.1), (8, 0.2), (10, 0.3)]
    assert_same(weights(model), snapshots.after[4])


def test_the_best_checkpoint_of_a_frozen_backbone_is_kept(build, examples, weights, rigged):
    rigged([0.3, 0.4, 0.9, 0.1])
    model, snapshots = build("poly", document_map=True), Snapshots()
    options = TrainingOptions(steps=6, freeze="backbone", **OPTIONS)
    train(model, examples[:16], examples[16:], options=options, callbacks=[snapshots])
    kept, best = weights(model), snapshots.after[4]
    assert torch.equal(kept["1.sub_modules.query.0.codes"], best["1.sub_modules.query.0.codes"])
    fold = next(name for name in kept if name.startswith("1.sub_modules.query.") and "linear.weight" in name)
    trained = next(name for name in best if name.startswith("1.sub_modules.document.") and "linear.weight" in name)
    assert torch.equal(kept[fold], best[trained].T)


def test_the_first_of_equals_is_the_best(build, examples, rigged):
    rigged([0.3, 0.4, 0.4, 0.4])
    result = train(build("poly"), examples[:16], examples[16:], options=TrainingOptions(steps=6, **OPTIONS))
    assert result.best_step == 2


def test_training_stops_when_it_no_longer_improves(build, examples, rigged):
    rigged([0.3, 0.4, 0.9, 0.1, 0.2, 0.3])
    result = train(
        build("poly"), examples[:16], examples[16:], options=TrainingOptions(steps=20, patience=2, **OPTIONS)
    )
    assert (result.steps, result.best_step, len(result.history)) == (8, 4, 4)


def test_the_last_step_is_validated(build, examples, rigged):
    rigged([0.3, 0.4, 0.5])
    result = train(build("poly"), examples[:16], examples[16:], options=TrainingOptions(steps=3, **OPTIONS))
    assert result.history == [(2, 0.4), (3, 0.5)]
    assert result.best_step == 3


def test_what_is_measured_is_what_the_model_has(build, examples):
    model = build("poly")
    result = train(model, examples[:16], examples, options=TrainingOptions(steps=4, bf16=False, **OPTIONS))
    assert result.metric == "MRR/5"
    assert 0 <= result.before <= 1
    assert result.after == max(value for _, value in result.history)
    again = train(model, examples[:16], examples, options=TrainingOptions(steps=1, bf16=False, **OPTIONS))
    assert again.before == result.after


def test_without_validation_there_is_nothing_to_report(build, examples):
    result = train(build("poly"), examples, options=TrainingOptions(steps=3, **OPTIONS))
    assert (result.best_step, result.metric, result.before, result.after, result.history) == (None,) * 4 + ([],)
    assert result.steps == 3
    assert result.seconds > 0


def test_candidates_are_ranked_as_given(build, examples, tasks):
    validation = [Example("Tea?", "Yes.", candidates=["No.", "Yes.", "Perhaps."]) for _ in range(2)]
    result = train(build("poly"), examples, validation, options=TrainingOptions(steps=1, **OPTIONS))
    assert [list(documents) for documents in tasks[0].documents] == [["No.", "Yes.", "Perhaps."]] * 2
    assert result.metric == "MRR/3"


def test_lists_are_sampled_where_one_example_has_no_candidates(build, examples, tasks):
    validation = [Example("Tea?", "Yes.", candidates=["No.", "Yes."]), *examples[:8]]
    result = train(build("poly"), examples, validation, options=TrainingOptions(steps=1, **OPTIONS))
    assert result.metric == "MRR/5"
    assert tasks[0].protocol == "sampled candidates"


@pytest.mark.parametrize("number", [2, 3, 24])
def test_few_examples_are_ranked_among_what_is_trained_on(number, build, examples):
    options = TrainingOptions(steps=1, batch_size=8)
    assert train(build("poly"), examples, examples[:number], options=options).metric == "MRR/24"
    shared = [Example(f"{place}?", examples[place % 2].positives) for place in range(4)]
    assert train(build("poly"), shared, examples[:number], options=options).metric == f"MRR/{number}"


@pytest.mark.parametrize(("architecture", "length"), [("poly", 60), ("cross", 20)])
def test_all_names_of_classes_are_ranked_where_each_is_encoded_once(architecture, length, build, examples, tasks):
    names = [Example(f"Question {number}?", f"Class {number % 60}.") for number in range(90)]
    options = TrainingOptions(steps=1, batch_size=2, negatives=1, validation_queries=5)
    assert train(build(architecture), examples, names, options=options).metric == f"MRR/{length}"
    assert all(len(set(documents)) == length for documents in tasks[0].documents)


def test_many_documents_are_not_all_ranked(build, examples):
    many = [Example(f"{number}?", f"{number}.") for number in range(FEW_DOCUMENTS + 1)]
    options = TrainingOptions(steps=1, batch_size=2, validation_queries=5)
    assert train(build("poly"), examples, many, options=options).metric == "MRR/20"
    assert train(build("poly"), examples, many[1:], options=options).metric == "MRR/200"


def test_an_example_with_many_answers_shortens_lists(build, examples):
    validation = [*examples[:4], Example("Which?", ["This.", "That.", "Both."])]
    options = TrainingOptions(steps=1, batch_size=8)
    assert train(build("poly"), examples, validation, options=options).metric == "MRR/25"


def test_a_query_asked_twice_has_all_its_answers(build, examples):
    validation = [Example("Tea?", text) for text in ("Yes.", "No.", "Later.")]
    trained_on = [Example(f"{number}?", one.positives) for number, one in enumerate(validation)]
    options = TrainingOptions(steps=1, batch_size=8)
    with pytest.raises(TrainingError, match=r"the 3 validation examples .*: nothing to rank against"):
        train(build("poly"), trained_on, validation, options=options)
    result = train(build("poly"), trained_on, [*validation, *examples[:2]], options=options)
    assert result.metric == "MRR/3"


def test_one_document_is_nothing_to_rank(build, examples, tmp_path):
    validation = [Example("Tea?", "Yes."), Example("Milk?", "Yes.")]
    with pytest.raises(TrainingError, match=r"the 2 validation examples have 1 distinct documents .*nothing to rank"):
        train(build("poly"), validation, validation, tmp_path / "run", TrainingOptions(steps=1))
    assert not (tmp_path / "run").exists()


def test_some_of_many_examples_are_validated_on(build, examples, tasks):
    options = TrainingOptions(steps=1, batch_size=8, validation_queries=6, candidates=10)
    assert train(build("poly"), examples, examples, options=options).metric == "MRR/10"
    assert len(tasks[0].queries) == 6
    assert list(tasks[0].queries) != [list(example.query) for example in examples[:6]], "not the first ones"


def test_a_corpus_is_ranked_where_documents_are_frozen(build, examples, tasks):
    corpus = [f"Nobody said {number}." for number in range(300)]
    for freeze in ("backbone", ()):
        options = TrainingOptions(steps=4, freeze=freeze, **OPTIONS)
        result = train(build("poly"), examples[:16], examples[16:], options=options, corpus=corpus)
        assert result.metric == ("MRR" if freeze else "MRR/5")
        assert len(result.history) == 2
    ranked, lists = tasks[0], tasks[-1]
    assert set(ranked.corpus) == {*corpus, *(example.positives[0] for example in examples[16:])}
    assert lists.candidates == 5
