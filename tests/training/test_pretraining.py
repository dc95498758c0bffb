"""Pre-training: it learns, goes on exactly after an interruption, and leaves a backbone like any other."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertTokenizerFast, TrainerCallback

from polyencoders import BiEncoder, CrossEncoder, PolyEncoder
from polyencoders.errors import ModelError, TrainingError
from polyencoders.training import PretrainingOptions, pretrain
from polyencoders.training.next_utterance import IGNORED, MaskingCollator, NextUtterancePairs
from polyencoders.training.pretraining_model import PretrainingModel, load_for_pretraining

WORDS = ["tea", "milk", "bread", "rain", "snow", "music", "chess", "trains"]
TALKS = [[f"about {word}?", f"yes {word}!"] for word in WORDS]


@pytest.fixture(scope="module")
def small(tiny_backbone, tmp_path_factory):
    """A backbone with a vocabulary of few words, and two layers: learns in seconds."""
    path = tmp_path_factory.mktemp("small")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "about", "yes", "?", "!", *WORDS]
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=32)
    tokenizer.save_pretrained(path)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).base_model.save_pretrained(path)
    return str(path)


def options(**given):
    return PretrainingOptions(**{"steps": 6, "batch_size": 4, "max_length": 16, "evaluate_every": 2, **given})


def test_it_learns_both_tasks_and_the_backbone_is_like_any_other(small, tmp_path):
    # Two subjects, and a reply is always on the context's: no word of one side tells without the other side's.
    talks = [[f"{word} {word} {word}?", f"{word} {word}!"] for word in ("tea", "milk")] * 16
    chosen = options(steps=200, batch_size=32, learning_rate=3e-3, evaluate_every=50)
    result = pretrain(talks, talks, tmp_path / "backbone", small, True, chosen)
    assert result.after.masked_loss < 0.7 * result.before.masked_loss
    assert result.after.next_accuracy > 0.8
    assert not (tmp_path / "backbone" / "checkpoints").exists()
    assert json.loads((tmp_path / "backbone" / "pretraining.json").read_text())["from_scratch"] is True
    assert AutoConfig.from_pretrained(tmp_path / "backbone").architectures == ["BertModel"]
    saved = load_file(tmp_path / "backbone" / "model.safetensors")
    assert not any(name.startswith(("cls.", "follows", "masked_lm")) for name in saved)
    for architecture in (BiEncoder, PolyEncoder):
        model = architecture(str(tmp_path / "backbone"), device="cpu")
        taken = model.route("query")[0].model.state_dict()
        assert all(torch.equal(taken[name], weights) for name, weights in saved.items())
    cross = CrossEncoder(str(tmp_path / "backbone"), device="cpu")
    name = "embeddings.word_embeddings.weight"
    found = next(weights for key, weights in cross.state_dict().items() if key.endswith(name))
    assert torch.equal(found, saved[name])
    assert len(cross.rank("about tea?", ["yes tea!", "yes milk!"])) == 2


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_as_an_uninterrupted_one(small, tmp_path):
    whole = pretrain(TALKS, TALKS, tmp_path / "whole", small, options=options())
    with pytest.raises(KeyboardInterrupt):
        pretrain(TALKS, TALKS, tmp_path / "cut", small, options=options(), callbacks=[Stop(5)])
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    with pytest.raises(TrainingError, match="interrupted run with other options"):
        pretrain(TALKS, TALKS, tmp_path / "cut", small, options=options(seed=1))
    assert pretrain(TALKS, TALKS, tmp_path / "cut", small, options=options()) == whole
    these, those = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(these[name], those[name]) for name in these)


def test_a_run_interrupted_while_it_saved_is_saved(small, tmp_path, monkeypatch):
    whole = pretrain(TALKS, TALKS, tmp_path / "whole", small, options=options())
    with monkeypatch.context() as full_disk:
        full_disk.setattr("transformers.BertModel.save_pretrained", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(TALKS, TALKS, tmp_path / "cut", small, options=options())
    assert [entry.name for entry in (tmp_path / "cut").iterdir()] == ["checkpoints"]
    assert pretrain(TALKS, TALKS, tmp_path / "cut", small, options=options()) == whole


def test_the_loss_is_that_of_transformers_own_head_and_a_binary_cross_entropy(small):
    model, tokenizer = load_for_pretraining(small)
    model.eval()
    pairs = NextUtterancePairs(TALKS, tokenizer, 16, 8)
    batch = MaskingCollator(tokenizer)([pairs[k] for k in range(8)])
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    first = model.encoder(**tokens).last_hidden_state[:, 0]
    chance = torch.sigmoid(first @ model.follows.weight[0] + model.follows.bias)
    right = torch.where(batch["follows"] == 1, chance, 1 - chance)
    expected = model.masked_lm(**tokens, labels=batch["labels"]).loss - right.log().mean()
    assert torch.allclose(model(**batch)["loss"], expected, atol=1e-5)
    assert set(tokens["token_type_ids"].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("distilbert", {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}),
        ("roberta", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}),
        ("modernbert", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}),
    ],
)
def test_the_other_head_reads_the_encoders_own_first_output_in_any_family(family, sizes):
    special = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    config = AutoConfig.for_model(family, vocab_size=50, **sizes, **special)
    model = PretrainingModel(AutoModelForMaskedLM.from_config(config)).eval()
    tokens = torch.randint(3, 50, (4, 8), generator=torch.Generator().manual_seed(0))
    asked = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    labels = torch.full_like(tokens, IGNORED)
    result = model(labels=labels, follows=torch.ones(4), **asked)
    first = model.encoder(**asked).last_hidden_state[:, 0]
    assert torch.allclose(result["next_logits"], model.follows(first)[:, 0], atol=1e-5)
    # Nothing is masked: the other loss is all there is.
    assert torch.allclose(result["loss"], -torch.sigmoid(result["next_logits"]).log().mean(), atol=1e-5)


def test_a_backbone_without_its_head_gets_a_tied_one_and_is_told_so(backbone, caplog):
    model, _ = load_for_pretraining(backbone)
    masked_lm = model.masked_lm
    assert masked_lm.get_output_embeddings().weight is masked_lm.get_input_embeddings().weight
    assert "ships without its masked-language-modelling head" in caplog.text


def test_what_cannot_be_pretrained_is_refused_in_one_line(small, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(small)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "maskless")
    AutoConfig.from_pretrained(small).save_pretrained(tmp_path / "maskless")
    with pytest.raises(ModelError, match="no mask token"):
        load_for_pretraining(str(tmp_path / "maskless"))
    with pytest.raises(ModelError, match="no backbone could be loaded"):
        load_for_pretraining(str(tmp_path / "nothing"))
    with pytest.raises(TrainingError, match="reads 32 tokens only"):
        pretrain(TALKS, TALKS, tmp_path / "out", small, options=options(max_length=64))
    with pytest.raises(TrainingError, match="steps must be a whole number of at least 1, got 0"):
        options(steps=0)
