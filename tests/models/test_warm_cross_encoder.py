"""Cross-encoders with a warm start, both ways and one way: a bi-encoder where texts do not see each other, the equation
where they do."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoTokenizer,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
)

from polyencoders import BiEncoder, OneWayCrossEncoder, WarmCrossEncoder
from polyencoders.errors import ModelError

CONVERSATION = ["Any plans for the weekend?", "Hiking, if it stays dry."]
PAIRS = [(CONVERSATION, "Which trail?"), ("tea", "I like tea, and more tea. " * 9), ("a", ""), ("", "b")]
CLOSED = -1e30
both = pytest.mark.parametrize("architecture", [WarmCrossEncoder, OneWayCrossEncoder])


@both
def test_of_texts_that_do_not_see_each_other_the_score_is_the_bi_encoders(architecture, backbone, tiny_backbone):
    for path in (backbone, tiny_backbone):
        expected = BiEncoder(path).predict(PAIRS)
        assert architecture(path, cross_bias=CLOSED).predict(PAIRS) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert architecture(path, cross_bias=0).predict(PAIRS) != pytest.approx(expected, abs=1e-2)


@both
def test_at_its_start_it_ranks_as_the_bi_encoder_does(architecture, backbone):
    documents = [
        "Send us a photo of the lid.",
        "Hold the power button for ten seconds.",
        "Invoices are in your account.",
    ]
    queries = ["it does not start", "where is my bill?", "the cover is broken"]
    model, start = architecture(backbone), BiEncoder(backbone)
    assert model.cross_bias == -2
    for query in queries:
        assert model.rank(query, documents)[0]["corpus_id"] == start.rank(query, documents)[0]["corpus_id"]


def by_hand(model, query, document):
    """The score of a pair, from the weights and the equation."""
    bert, tokenizer = model[0].auto_model.eval(), model.tokenizer
    texts = [tokenizer(text)["input_ids"] for text in (query, document)]
    ids = torch.tensor([id for text in texts for id in text])
    positions = torch.tensor([place for text in texts for place in range(len(text))])
    side = torch.tensor([0] * len(texts[0]) + [1] * len(texts[1]))
    embeddings = bert.embeddings
    outputs = embeddings.LayerNorm(
        embeddings.word_embeddings(ids)
        + embeddings.position_embeddings(positions)
        + embeddings.token_type_embeddings(torch.zeros_like(ids))
    )
    bias = torch.where(side[:, None] == side[None, :], 0.0, model.cross_bias)
    if isinstance(model, OneWayCrossEncoder):
        bias[(side[:, None] == 0) & (side[None, :] == 1)] = -math.inf
    heads, width = bert.config.num_attention_heads, bert.config.hidden_size // bert.config.num_attention_heads
    for layer in bert.encoder.layer:
        of = layer.attention.self
        query_, key, value = (
            project(outputs).view(-1, heads, width).transpose(0, 1) for project in (of.query, of.key, of.value)
        )
        weights = (query_ @ key.transpose(1, 2) / math.sqrt(width) + bias).softmax(-1)
        read = (weights @ value).transpose(0, 1).reshape(len(ids), -1)
        outputs = layer.attention.output.LayerNorm(layer.attention.output.dense(read) + outputs)
        inner = functional.gelu(layer.intermediate.dense(outputs))
        outputs = layer.output.LayerNorm(layer.output.dense(inner) + outputs)
    return (outputs[side == 0].mean(0) @ outputs[side == 1].mean(0)).item()


@torch.no_grad()
@both
@pytest.mark.parametrize("bias", [-2.0, -0.5, 0.0])
def test_it_is_its_equation(tiny_backbone, architecture, bias):
    model = architecture(tiny_backbone, cross_bias=bias)
    pairs = [("what is tea", "a drink"), ("so", "the hills and the lake"), ("I see", "you")]
    expected = [by_hand(model, *pair) for pair in pairs]
    assert model.predict(pairs) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_each_text_has_positions_of_its_own_and_its_special_tokens(tiny_backbone):
    model = WarmCrossEncoder(tiny_backbone, query_length=8, document_length=6)
    features = model.preprocess([("tea", "milk"), (["old " * 20, "the newest words"], "first words " + "again " * 30)])
    sides, ids, positions = (
        features["sides"].tolist(),
        features["input_ids"].tolist(),
        features["position_ids"].tolist(),
    )
    decode = model.tokenizer.decode
    assert sides[0] == [0, 0, 0, 1, 1, 1] + [-1] * (len(sides[0]) - 6)
    assert positions[0][:6] == [0, 1, 2, 0, 1, 2]
    assert decode(ids[0][:6]) == "[CLS] tea [SEP] [CLS] milk [SEP]"
    query = [id for id, side in zip(ids[1], sides[1], strict=True) if side == 0]
    document = [id for id, side in zip(ids[1], sides[1], strict=True) if side == 1]
    assert len(query) <= 8
    assert decode(query).endswith("the newest words [SEP]")
    assert len(document) == 6
    assert decode(document).startswith("[CLS] first words again")
    assert not len(model.preprocess([]))


def test_a_prompt_stands_before_the_query(tiny_backbone):
    model = WarmCrossEncoder(tiny_backbone, query_length=8)
    features = model.preprocess([("one two three four five six seven", "x")], prompt="search: ")
    text = model.tokenizer.decode(features["input_ids"][0][features["sides"][0] == 0])
    assert text == "[CLS] search : four five six seven [SEP]"


SMALL = {
    "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 140, "initializer_range": 0.3, "pad_token_id": 0,
}  # fmt: skip
OTHERS = {
    "RoBERTa": RobertaConfig(**SMALL),
    "RoBERTa, padding 1": RobertaConfig(**{**SMALL, "pad_token_id": 1}),
    "MPNet": MPNetConfig(**SMALL),
    "ALBERT": AlbertConfig(**SMALL, embedding_size=32),
    "ModernBERT": ModernBertConfig(**SMALL),
    "DistilBERT": DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.3),
}


def saved(config, path, backbone):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(path)
    return str(path)


@both
@pytest.mark.parametrize("name", OTHERS)
def test_any_encoder_begins_where_its_bi_encoder_is(name, architecture, tmp_path, backbone):
    path = saved(OTHERS[name], tmp_path / "encoder", backbone)
    lengths = {"query_length": 100, "document_length": 100}
    if architecture is OneWayCrossEncoder and name == "MPNet":
        with pytest.raises(ModelError, match=r"a MPNetModel cannot be given the words .* use a WarmCrossEncoder"):
            architecture(path)
        return
    expected = BiEncoder(path, **lengths).predict(PAIRS[:1] + PAIRS[2:])
    model = architecture(path, cross_bias=CLOSED, **lengths)
    assert model.predict(PAIRS[:1] + PAIRS[2:]) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    model.save_pretrained(tmp_path / "saved")
    again = architecture(tmp_path / "saved")
    assert (again.cross_bias, again.query_length, again.document_length) == (CLOSED, 100, 100)
    assert list(again.predict(PAIRS)) == list(model.predict(PAIRS))


def test_one_way_a_text_beyond_the_window_of_local_layers_begins_as_the_bi_encoder_too(tmp_path, backbone):
    """Each text is read with the masks that it has alone."""
    path = saved(ModernBertConfig(**SMALL, local_attention=8), tmp_path / "encoder", backbone)
    pairs = [("tea and the hills " * 9, "I see " * 20)]
    expected = BiEncoder(path).predict(pairs)
    assert OneWayCrossEncoder(path, cross_bias=CLOSED).predict(pairs) == pytest.approx(expected, rel=1e-4)


def test_an_encoder_that_cannot_be_told_what_to_see_is_refused(tmp_path, backbone):
    path = saved(DebertaV2Config(**SMALL), tmp_path / "encoder", backbone)
    with pytest.raises(ModelError, match=r"a DebertaV2Model cannot be told which words .* use a CrossEncoder"):
        WarmCrossEncoder(path)
    with pytest.raises(ModelError, match=r"a DebertaV2Model cannot be given the words of another text"):
        OneWayCrossEncoder(path)


@pytest.mark.parametrize("bias", [0.5, math.nan, -math.inf, True, "low"])
def test_a_bias_is_a_number_of_0_or_below(tiny_backbone, bias):
    with pytest.raises(ModelError, match=f"^cross_bias must be a number, 0 or below, got {bias!r}$"):
        WarmCrossEncoder(tiny_backbone, cross_bias=bias)


@both
def test_the_backbones_precision_is_kept(architecture, tiny_backbone):
    model = architecture(tiny_backbone, model_kwargs={"torch_dtype": torch.bfloat16})
    if architecture is WarmCrossEncoder:
        assert model.preprocess(PAIRS)["attention_mask"].dtype == torch.bfloat16
    expected = architecture(tiny_backbone).predict(PAIRS[:2])
    assert model.predict(PAIRS[:2]) == pytest.approx(expected, rel=0.05)


@both
def test_no_weights_are_added(architecture, tiny_backbone):
    model = architecture(tiny_backbone)
    added = {name for name, _ in model.named_parameters()} - {f"0.{name}" for name, _ in model[0].named_parameters()}
    assert not added
