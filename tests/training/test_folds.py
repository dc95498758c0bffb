"""Few pairs: wrong answers from everything there is, folds in place of a tenth, and no gain where none is shown."""

import json

import pytest

from polyencoders import BiEncoder
from polyencoders.data import Example
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, train_in_folds
from polyencoders.training.evaluators import RankingEvaluator, validation_lists

OPTIONS = TrainingOptions(steps=4, batch_size=4, evaluate_every=2, learning_rate=1e-3, bf16=False)


def test_wrong_answers_come_from_what_is_trained_on_too(examples):
    own = validation_lists(examples[:2], OPTIONS).task
    assert own.candidates == 2
    more = [text for example in examples for text in example.positives]
    assert validation_lists(examples[:2], OPTIONS, documents=more).task.candidates == len(examples)
    many = [Example(f"question {i}?", f"answer {i}") for i in range(30)]
    assert validation_lists(many, OPTIONS, documents=more).task.candidates == 30, "enough of its own"


def test_the_curve_of_all_folds_chooses_and_all_pairs_are_trained_on(build, examples, tmp_path, monkeypatch):
    seen = []

    def measured(self, model, *args, **kwargs):
        seen.append(len(self.task.queries))
        # Before, after two and after four steps: of five folds, one more query is found after two.
        return {self.primary_metric: [0.5, 0.75, 0.5][(len(seen) - 1) % 3]}

    monkeypatch.setattr(RankingEvaluator, "__call__", measured)
    model = build("bi")
    result = train_in_folds(model, examples[:10], tmp_path / "model", OPTIONS)
    assert seen == [2] * 15, "every query is held out once, in one of five folds"
    assert (result.best_step, result.steps, result.pairs) == (2, 2, 10)
    assert (result.before, result.after) == (pytest.approx(0.5), pytest.approx(0.75))
    assert result.metric == "MRR/10, 5 folds"
    assert (tmp_path / "model" / "modules.json").exists()
    assert not (tmp_path / "model" / "checkpoints").exists()


@pytest.mark.parametrize("value", [1.0, 0.5])
def test_without_a_gain_the_model_stays_as_it_came(build, examples, tmp_path, monkeypatch, weights, assert_same, value):
    monkeypatch.setattr(RankingEvaluator, "__call__", lambda self, *args, **kwargs: {self.primary_metric: value})
    model = build("bi")
    before = weights(model)
    result = train_in_folds(model, examples[:10], tmp_path / "model", OPTIONS)
    assert (result.best_step, result.steps) == (0, 0)
    assert result.before == result.after == pytest.approx(value)
    assert_same(weights(model), before)
    assert_same(weights(BiEncoder(tmp_path / "model", device="cpu")), before)


def test_a_gain_in_one_fold_alone_is_luck(build, examples, monkeypatch, weights, assert_same):
    values = iter([0.5, 1.0, 1.0] + [0.5, 0.5, 0.5] * 4)  # Before, after two and after four steps of five folds
    monkeypatch.setattr(RankingEvaluator, "__call__", lambda self, *args, **kwargs: {self.primary_metric: next(values)})
    model = build("bi")
    before = weights(model)
    result = train_in_folds(model, examples[:10], None, OPTIONS)
    assert (result.best_step, result.before, result.after) == (0, pytest.approx(0.5), pytest.approx(0.5))
    assert_same(weights(model), before)


def test_a_handful_is_told_what_to_do(build, examples):
    with pytest.raises(TrainingError, match=r"4 distinct queries are too few .*: give 5 or more.*--validation none"):
        train_in_folds(build("bi"), examples[:4], None, OPTIONS)


def test_a_model_that_is_there_is_kept_unless_that_is_asked(build, examples, tmp_path):
    build("bi").save_pretrained(tmp_path / "model")
    before = (tmp_path / "model" / "modules.json").stat().st_mtime_ns
    with pytest.raises(TrainingError, match="model holds a model already: choose another output, or say overwrite"):
        train_in_folds(build("bi"), examples[:10], tmp_path / "model", OPTIONS)
    assert (tmp_path / "model" / "modules.json").stat().st_mtime_ns == before


def test_a_frozen_backbone_in_folds_leaves_the_document_vectors(build, examples):
    model, plain = build("poly", m=2, document_map=True), build("bi", reduction="mean")
    options = TrainingOptions(steps=4, batch_size=4, freeze="backbone", learning_rate=(1e-2, 1e-1))
    result = train_in_folds(model, examples, None, options)
    assert set(result.rates) == {1e-2, 1e-1}
    assert not model.document_map
    assert plain.encode_document(["tea"]).shape == model.encode_document(["tea"]).shape


def test_rows_of_any_kind_train(build, examples, tmp_path):
    import pandas as pd
    from datasets import Dataset, DatasetDict

    from polyencoders.data import as_examples
    from polyencoders.errors import DataError
    from polyencoders.training import train

    rows = [{"question": f"what is {i}?", "answer": f"it is {i}"} for i in range(8)]
    expected = [Example(row["question"], row["answer"]) for row in rows]
    for given in (rows, iter(rows), [tuple(row.values()) for row in rows], pd.DataFrame(rows), Dataset.from_list(rows)):
        assert as_examples(given) == expected
    for bad, said in (
        (DatasetDict(train=Dataset.from_list(rows)), "choose one of its splits"),
        ("mine.jsonl", "read_examples reads a file"),
        ([("a",)], "row 1: expected an Example, a dict, or a tuple"),
        ([("a", "b"), ("a", " ")], "row 2: positive: the text is empty"),
        ([{"a": 1, "b": 2}], "row 1: cannot tell the query"),
        (3, "expected rows, given int 3"),
    ):
        with pytest.raises(DataError, match=said):
            as_examples(bad)
    options = TrainingOptions(steps=1, batch_size=4)
    assert train(build("bi"), (row for row in rows), output_dir=tmp_path / "m", options=options).pairs == 8
    with pytest.raises(TrainingError, match="holds a model already: choose another output, or say overwrite"):
        train(build("bi"), rows, output_dir=tmp_path / "m", options=options)
    assert train(build("bi"), rows, output_dir=tmp_path / "m", options=options, overwrite=True).steps == 1
    assert json.loads((tmp_path / "m" / "modules.json").read_text())


def test_a_loss_for_single_vectors_is_refused(build):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainingArguments, losses

    from polyencoders.training import DualEncoderTrainer

    model = build("poly", m=2)
    with pytest.raises(TrainingError, match="MultipleNegativesRankingLoss compares one vector with one vector"):
        DualEncoderTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(output_dir="unused", report_to="none", use_cpu=True),
            train_dataset=Dataset.from_dict({"q": ["a", "b"], "d": ["c", "d"]}),
            loss=losses.MultipleNegativesRankingLoss(model),
        )


def test_a_full_disk_is_said_and_leaves_nothing_half_written(build, examples, tmp_path, monkeypatch):
    import torch

    from polyencoders.training import train

    def full(*args, **kwargs):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 12 vs 3")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="could not be written: no space left on the disk") as caught:
        train(build("bi"), examples, examples[:6], tmp_path / "m", OPTIONS)
    assert "checkpoint-2" in str(caught.value)
    assert [path.name for path in (tmp_path / "m" / "checkpoints").glob("checkpoint-*")] == []
