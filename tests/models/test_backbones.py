"""Backbones whose tokeniser and weights do not quite fit each other: mended where that is safe, else one line."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from polyencoders import BiEncoder
from polyencoders.errors import ModelError

SPECIAL = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"}


@pytest.fixture(scope="module")
def tokens():
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    found.train_from_iterator(["tea for two"], trainer)
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return found


def saved(path, model, tokens, **special):
    model.save_pretrained(path)
    inputs = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(tokenizer_object=tokens, model_input_names=inputs, **special).save_pretrained(path)
    return str(path)


def roberta(tokens, **settings):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = {"vocab_size": tokens.get_vocab_size(), "max_position_embeddings": 66, **settings}
    return RobertaModel(RobertaConfig(**sizes, pad_token_id=1, type_vocab_size=1, **config))


def test_a_long_text_is_cut_where_the_positions_end(tokens, tmp_path):
    path = saved(tmp_path, roberta(tokens), tokens, pad_token="<pad>", **SPECIAL)
    model = BiEncoder(path)
    assert model.max_seq_length == 64, "two of the 66 are the padding's"
    vectors = model.encode_documents(["tea " * 200, "tea " * 300, "tea"])
    assert (vectors[0] == vectors[1]).all()
    assert BiEncoder(path, query_length=64).query_length == 64
    with pytest.raises(ModelError, match="query_length is 65, but the backbone has positions for 64"):
        BiEncoder(path, query_length=65)


def test_a_decoder_pads_with_its_end_of_text(tokens, tmp_path, caplog):
    decoder = GPT2Model(GPT2Config(vocab_size=tokens.get_vocab_size(), n_embd=32, n_layer=1, n_head=2, n_positions=64))
    model = BiEncoder(saved(tmp_path / "a", decoder, tokens, **SPECIAL))
    assert "has no pad_token: </s>, its end of text, pads" in caplog.text
    alone, padded = model.encode_documents(["tea"]), model.encode_documents(["tea", "tea for two or more"])
    assert alone[0] == pytest.approx(padded[0], abs=1e-6)
    with pytest.raises(ModelError, match="has no padding and no end of text: give it a pad_token"):
        BiEncoder(saved(tmp_path / "b", decoder, tokens, unk_token="<unk>"))


def test_a_tokeniser_of_another_model_is_refused(tokens, tmp_path):
    path = saved(tmp_path, roberta(tokens, vocab_size=100), tokens, pad_token="<pad>", **SPECIAL)
    with pytest.raises(ModelError, match="tokens and its weights 100: they are not of one model"):
        BiEncoder(path)
