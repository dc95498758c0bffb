"""One run, from a few pairs to a saved model."""

import gc
import weakref

import pytest
import torch
from transformers import TrainerCallback, set_seed

from polyencoders import PolyEncoder
from polyencoders.data import Example
from polyencoders.errors import DataError, TrainingError
from polyencoders.models import bf16_is_native
from polyencoders.models.poly_encoder import ALIKE
from polyencoders.training import TrainingOptions, train
from polyencoders.training.evaluators import validation_lists
from polyencoders.training.losses import InBatchCrossEntropy

PAIRS = [Example(f"What follows {i}?", f"After {i} comes {i + 1}.") for i in range(10)]
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle"}


@pytest.mark.parametrize("freeze", [(), "backbone"])
def test_ten_pairs_and_a_poly_encoder(freeze, build, tmp_path):
    model = build("poly")
    train(
        model, PAIRS, output_dir=tmp_path / "mine", options=TrainingOptions(steps=20, freeze=freeze, evaluate_every=10)
    )
    again = PolyEncoder(str(tmp_path / "mine"), device="cpu")
    documents = [example.positives[0] for example in PAIRS]
    assert again.rank("What follows 3?", documents) == model.rank("What follows 3?", documents)


@pytest.mark.parametrize(("freeze", "steps"), [((), 15), ("backbone", 100)])
def test_training_learns(freeze, steps, backbone):
    """Ten pairs by heart, which nothing but training could pair."""
    questions = ["tea", "rain", "chess", "bread", "ships", "music", "snow", "maps", "birds", "trains"]
    answers = ["Oslo", "blue", "seven", "iron", "Monday", "left", "wool", "Peru", "never", "glass"]
    pairs = [Example(question, answer) for question, answer in zip(questions, answers, strict=True)]
    set_seed(0)
    model = PolyEncoder(backbone, device="cpu")

    def right():
        return sum(model.rank(question, answers, top_k=1)[0]["corpus_id"] == i for i, question in enumerate(questions))

    assert right() <= 3
    rate = 1e-3 if freeze else 1e-4
    options = TrainingOptions(steps=steps, freeze=freeze, learning_rate=rate, evaluate_every=steps)
    train(model, pairs, options=options)
    assert right() >= 9


@pytest.mark.parametrize("architecture", ["poly", "bi"])
def test_what_averaged_codes_reach_is_measured_on_the_same_lists(architecture, build):
    model = build(architecture)
    held_out = [Example(f"What comes before {i}?", f"{i - 1} comes before {i}.") for i in range(20, 40)]
    options = TrainingOptions(steps=3, evaluate_every=3, candidates=5, validation_queries=20)
    result = train(model, PAIRS, held_out, options=options)
    if architecture == "bi":
        assert result.averaged is None
        return
    task = validation_lists(held_out, options).task
    reciprocal = 0.0
    for query, documents, relevant in zip(task.queries, task.documents, task.relevant, strict=True):
        codes, vectors = model.encode_query([query]), model.encode_document(documents)
        scores = vectors @ codes[0].mean(axis=0)
        reciprocal += 1 / (1 + (scores > scores[list(relevant)].max()).sum())
    assert result.averaged == pytest.approx(reciprocal / 20)
    assert model.temperature != ALIKE


class Nothing(InBatchCrossEntropy):
    """A loss that no weight can lower."""

    def calculate_loss(self, *args, **kwargs):
        return super().calculate_loss(*args, **kwargs) * 0


def test_a_loss_of_ones_own(build, examples, weights, assert_same):
    model = build("poly")
    before = {name: tensor.clone() for name, tensor in weights(model).items()}
    train(model, examples, options=TrainingOptions(steps=2, batch_size=8), loss=Nothing)
    assert_same(before, weights(model))


@pytest.mark.parametrize("architecture", ["bi", "poly", "cross", "cross-warm", "cross-one-way", "arc-ii"])
def test_a_saved_model_is_whole_and_nothing_in_it_is_pickled(architecture, build, examples, tmp_path):
    model = build(architecture)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    options = TrainingOptions(steps=4, batch_size=4, evaluate_every=2, negatives=2, candidates=5)
    train(model, examples[:16], examples[16:], tmp_path / "run", options)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in PICKLES]
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    pairs = [("tea?", "Yes."), (["Hello.", "Milk?"], "No.")]
    again = type(model)(str(tmp_path / "run"), device="cpu")
    assert list(again.predict(pairs)) == list(model.predict(pairs))


def test_the_card_says_how_it_was_trained(build, examples, tmp_path):
    options = TrainingOptions(steps=4, batch_size=4, freeze="backbone", learning_rate=3e-4, candidates=5, seed=3)
    result = train(build("poly"), examples[:16], examples[16:], tmp_path / "run", options)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| Pairs | 16 |" in card
    assert "| Steps | 4 of 4 |" in card
    assert "| Frozen | backbone |" in card
    assert "| Seed | 3 |" in card
    assert (
        f"| Validation MRR/5 | {result.before:.3f} before, {result.after:.3f} after step {result.best_step} |" in card
    )


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("architecture", ["poly", "cross"])
def test_bf16_trains_and_leaves_a_model_like_any_other(architecture, bf16, build, examples, tmp_path):
    model, losses = build(architecture), Losses()
    options = TrainingOptions(steps=3, batch_size=4, bf16=bf16, negatives=2, evaluate_every=1)
    train(model, examples, output_dir=tmp_path / "run", options=options, callbacks=[losses])
    assert len(losses.seen) == 3
    assert all(torch.isfinite(torch.tensor(losses.seen)))
    assert "forward" not in vars(model), "no autocast is left around it"
    pairs = [("tea?", "Yes."), ("milk?", "No.")]
    assert list(type(model)(str(tmp_path / "run"), device="cpu").predict(pairs)) == list(model.predict(pairs))


class Losses(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs, **kwargs):
        if "loss" in logs:
            self.seen.append(logs["loss"])


def test_whether_bf16_pays_is_known():
    assert isinstance(bf16_is_native(torch.device("cpu")), bool)
    assert bf16_is_native(torch.device("meta")) is False


def test_nothing_of_the_trainer_stays_behind(build, examples):
    class Keep(TrainerCallback):
        def on_train_end(self, args, state, control, optimizer, **kwargs):
            self.optimizer = weakref.ref(optimizer)

    model, keep = build("poly"), Keep()
    train(model, examples, options=TrainingOptions(steps=2, batch_size=4), callbacks=[keep])
    gc.collect()
    assert keep.optimizer() is None
    assert all(weights.grad is None for weights in model.parameters())
    assert not model.training


def test_a_trained_model_can_be_trained_again(build, examples, weights):
    model = build("poly", document_map=True)
    train(model, examples, options=TrainingOptions(steps=2, batch_size=4, freeze="backbone"))
    before = weights(model)
    train(model, examples, options=TrainingOptions(steps=2, batch_size=4, learning_rate=1e-3))
    after = weights(model)
    assert [name for name in before if ".layer." in name and not torch.equal(before[name], after[name])]


@pytest.mark.parametrize(
    ("pairs", "batch_size", "message"),
    [
        ([], 32, "no examples to train on"),
        (PAIRS[:1], 32, "at least 2 pairs .* got 1 of them and batch_size=32"),
        (PAIRS, 1, "at least 2 pairs .* got 10 of them and batch_size=1"),
    ],
)
def test_too_few_pairs(pairs, batch_size, message, build, tmp_path):
    with pytest.raises((TrainingError, DataError), match=message):
        train(build("poly"), pairs, output_dir=tmp_path / "run", options=TrainingOptions(batch_size=batch_size))
    assert not (tmp_path / "run").exists()


def test_too_few_documents_for_a_cross_encoder(build, tmp_path):
    same = [Example(example.query, "Yes.") for example in PAIRS]
    with pytest.raises(TrainingError, match="1 distinct ones are too few, give more examples"):
        train(build("cross"), same, output_dir=tmp_path / "run")
    assert not list(tmp_path.rglob("*.json"))
    options = TrainingOptions(steps=1, batch_size=2)
    assert train(build("cross"), PAIRS[:3], output_dir=tmp_path / "run", options=options).steps == 1


def test_what_cannot_be_frozen_leaves_no_folder(build, tmp_path):
    with pytest.raises(TrainingError, match="what can be frozen"):
        train(build("poly"), PAIRS, output_dir=tmp_path / "run", options=TrainingOptions(freeze="everything"))
    assert not (tmp_path / "run").exists()


def test_explicit_negatives_and_several_right_answers(build):
    pairs = [Example(f"What is {i}?", [f"{i}.", f"It is {i}."], negatives=[f"{i + 1}."]) for i in range(8)]
    for architecture in ("poly", "cross"):
        result = train(build(architecture), pairs, options=TrainingOptions(steps=3, batch_size=4, negatives=3))
        assert result.steps == 3
