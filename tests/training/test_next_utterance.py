"""What pre-training reads: masks at BERT's rates, never on special tokens; true and other utterances half and half."""

import pytest
import torch
from transformers import AutoTokenizer

from polyencoders.errors import TrainingError
from polyencoders.training.next_utterance import IGNORED, MaskingCollator, NextUtterancePairs

TALKS = [[f"Hello {i}.", f"What of {i}?", "Yes, please.", f"Then {i} it is, as we both said before."] for i in range(8)]


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    return AutoTokenizer.from_pretrained(tiny_backbone)


@pytest.fixture(scope="module")
def batch(tokenizer):
    """640 pairs, and the same before masking."""
    pairs = NextUtterancePairs(TALKS, tokenizer, max_length=48, size=640)
    rows = [pairs[k] for k in range(640)]
    return rows, MaskingCollator(tokenizer)(rows)


def original(rows, shape):
    tokens = torch.zeros(shape, dtype=torch.long)
    for place, row in enumerate(rows):
        tokens[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
    return tokens


def test_masks_have_the_rates_of_bert_and_spare_special_tokens(batch, tokenizer):
    rows, features = batch
    tokens, labels = original(rows, features["input_ids"].shape), features["labels"]
    special = torch.isin(tokens, torch.tensor(tokenizer.all_special_ids))
    masked = labels != IGNORED
    assert not (masked & special).any()
    assert torch.equal(features["input_ids"][~masked], tokens[~masked])
    assert torch.equal(labels[masked], tokens[masked])
    # More than 1,200 are masked of 8,000 or more: five standard deviations are below these tolerances.
    assert (~special).sum() > 8000
    assert float(masked.sum() / (~special).sum()) == pytest.approx(0.15, abs=0.02)
    now = features["input_ids"][masked]
    assert float((now == tokenizer.mask_token_id).float().mean()) == pytest.approx(0.8, abs=0.06)
    assert float((now == tokens[masked]).float().mean()) == pytest.approx(0.1, abs=0.045)


def test_what_is_drawn_depends_on_the_place_alone(batch, tokenizer):
    rows, _ = batch
    again = NextUtterancePairs(TALKS, tokenizer, max_length=48, size=640)
    assert again[333] == rows[333]  # and none before it
    collator = MaskingCollator(tokenizer)
    first, other = collator(rows[64:80]), collator(rows[80:96])
    assert torch.equal(collator(rows[64:80])["input_ids"], first["input_ids"])
    assert not torch.equal(first["labels"], other["labels"])


def test_half_follow_and_no_other_utterance_says_the_same(tokenizer):
    pairs = NextUtterancePairs(TALKS, tokenizer, max_length=48, size=480)
    true = {(tuple(talk[:turn]), talk[turn]) for talk in TALKS for turn in range(1, len(talk))}
    answer = dict(true)
    drawn = [pairs.pair(k) for k in range(480)]
    assert sum(follows for _, _, follows in drawn) == 240
    for context, utterance, follows in drawn:
        assert ((tuple(context), utterance) in true) == follows
        assert (utterance == answer[tuple(context)]) == follows
    # "Yes, please." is an eighth of a third of all places, and still never its own negative; every place in an epoch.
    places = len(pairs.places)
    assert {tuple(context) for context, _, _ in drawn[:places]} == set(answer)


def test_contexts_are_cut_from_their_oldest_end(tokenizer):
    talk = [f"turn number {i} of very many" for i in range(60)] + ["the newest turn", "the reply"]
    pairs = NextUtterancePairs([["a", "b"], talk], tokenizer, max_length=24, size=2 * len(talk))
    for k in range(len(pairs)):
        row, (context, utterance, _) = pairs[k], pairs.pair(k)
        assert len(row["input_ids"]) <= 24
        read = tokenizer.decode(row["input_ids"])
        assert f"{context[-1]} [SEP] {utterance}" in read


def test_conversations_that_all_reply_the_same_are_refused(tokenizer):
    with pytest.raises(TrainingError, match="two different replies"):
        NextUtterancePairs([["Tea?", "Yes."], ["Milk?", "yes. "]], tokenizer, 32, 8)
