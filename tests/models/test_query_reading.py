"""What the codes read in a query, against the paper's equation as a plain loop over the transformer's own outputs."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from polyencoders.encoders.reading import reading
from polyencoders.models import QueryCodes
from polyencoders.models.query_reading import read_query

QUERIES = [
    "hiking",
    "which trail do you take, if it stays dry?",
    ["hello!", "unbelievable   pancakes", "don't you like them?"],
    "naïve Zürich 你好",
]
KINDS = ["learnt", "first", "last", "last-and-first"]


def tokens_and_outputs(path, text):
    """Ids and outputs of one text: no batch, no padding, nothing of ours."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    features = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(path).eval()(**features).last_hidden_state[0]
    return tokenizer.convert_ids_to_tokens(features["input_ids"][0].tolist()), outputs.tolist()


def step(after):
    """The step of the bias of an output that so many follow."""
    return after if after < 8 else min(31, 8 + math.floor(4 * math.log2(after / 8)))


def learnt_of(codes):
    """Each learnt code with its biases; None of others."""
    return None if codes.codes is None else list(zip(codes.codes.tolist(), codes.biases.tolist(), strict=True))


def naive_shares(outputs, kind, m, learnt):
    """A row for each code: of learnt ones `softmax(c_i . h_j + b_i(N - j))`, of others a one where their output is."""
    places = range(len(outputs))
    if kind == "learnt":
        rows = []
        for code, bias in learnt:
            logits = [
                sum(a * b for a, b in zip(code, h, strict=True)) + bias[step(len(outputs) - 1 - j)]
                for j, h in enumerate(outputs)
            ]
            exponentials = [math.exp(x - max(logits)) for x in logits]
            rows.append([e / sum(exponentials) for e in exponentials])
        return rows
    if kind == "first":
        chosen = [place if place < len(outputs) else None for place in range(m)]
    else:
        start = max(0, len(outputs) - m)
        chosen = [start + i if start + i < len(outputs) else None for i in range(m)]
        if kind == "last-and-first":
            chosen = [0 if len(outputs) > m else None, *chosen]
    return [[float(place == one) for place in places] for one in chosen]


def merged(tokens, rows):
    """The same by words, as BERT writes them: a token that begins with ## goes on with the word before."""
    starts = [place for place, token in enumerate(tokens) if not token.startswith("##")]
    ends = [*starts[1:], len(tokens)]
    return [[sum(row[start:end]) for start, end in zip(starts, ends, strict=True)] for row in rows]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: str(query)[:12])
@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_those_of_the_equation(build, tiny_backbone, kind, query):
    model = build(f"poly-{kind}", shared_tower=True)
    text = query if isinstance(query, str) else " [SEP] ".join(query)
    tokens, outputs = tokens_and_outputs(tiny_backbone, text)
    expected = merged(tokens, naive_shares(outputs, kind, model.m, learnt_of(model.query_codes)))
    reading = read_query(model, query)
    np.testing.assert_allclose(reading.shares, expected, atol=1e-5)
    assert len(reading.words) == reading.shares.shape[1]
    np.testing.assert_allclose(reading.codes, model.encode_query([query])[0], atol=1e-5)


def test_words_are_where_the_text_has_them(build):
    model = build("poly-learnt")
    reading = read_query(model, ["Hello!", "unbelievable   pancakes"])
    assert reading.text == "Hello! [SEP] unbelievable   pancakes"
    assert [word.text for word in reading.words] == [
        *("[CLS]", "Hello", "!", "[SEP]", "unbelievable", "pancakes", "[SEP]")
    ]
    assert [word.special for word in reading.words] == [True, False, False, True, False, False, True]
    for word in reading.words[1:-1]:
        assert reading.text[word.start : word.end] == word.text


def test_the_prompt_is_read_too(build):
    model = build("poly-learnt")
    model.prompts = {"query": "search: ", "document": ""}
    reading = read_query(model, "tea")
    assert (reading.prompt, reading.text) == ("search: ", "search: tea")
    np.testing.assert_allclose(reading.codes, model.encode_query(["tea"])[0], atol=1e-5)
    np.testing.assert_allclose(reading.shares.sum(1), 1, atol=1e-5)


def test_what_was_cut_was_not_read(build):
    model = build("poly-learnt", query_length=8)
    short, long = read_query(model, "tea and bread"), read_query(model, ["the oldest turn", "tea, bread and rain"])
    assert not short.was_cut
    assert long.was_cut
    assert "oldest" not in long.text
    assert [word.text for word in long.words][-2:] == ["rain", "[SEP]"]


def test_without_places_in_the_text_tokens_are_the_words(build):
    model = build("poly-first")
    whole = read_query(model, "unbelievable pancakes")

    class Slow:
        """A tokeniser that does not say where its tokens are."""

        is_fast = False

        def __init__(self, tokenizer):
            self._tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

    from polyencoders.models import query_reading

    ids = model.tokenizer("unbelievable pancakes")["input_ids"]
    places, numbers = query_reading._places(Slow(model.tokenizer), "unbelievable pancakes", ids)
    names, shares = model.tokenizer.convert_ids_to_tokens(ids), np.eye(len(ids), dtype=np.float32)
    read = reading("unbelievable pancakes", "", False, names, places, numbers, [False] * len(ids), shares, shares)
    assert [word.text for word in read.words] == names
    np.testing.assert_array_equal(read.shares, shares)
    assert len(whole.words) <= len(read.words)


def test_the_model_is_left_as_it_was(build):
    model = build("poly-learnt").train()
    read_query(model, "tea")
    assert model.training


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_has_no_share(kind, side):
    torch.manual_seed(0)
    codes = QueryCodes(8, m=4, kind=kind, position_bias=kind == "learnt")
    if codes.biases is not None:
        torch.nn.init.normal_(codes.biases)
    lengths = (20, 3, 1)
    outputs, mask = torch.randn(3, 20, 8), torch.zeros(3, 20, dtype=torch.bool)
    for row, length in enumerate(lengths):
        mask[row, 20 - length if side == "left" else 0 : 20 if side == "left" else length] = True
    shares = codes.attention(outputs, mask)
    assert not shares[~mask[:, None, :].expand_as(shares)].any()
    for row, length in enumerate(lengths):
        real = outputs[row][mask[row]]
        expected = naive_shares(real.tolist(), kind, 4, learnt_of(codes))
        np.testing.assert_allclose(shares[row][:, mask[row]].detach(), expected, atol=1e-5, err_msg=str(length))
    y = codes({"token_embeddings": outputs, "attention_mask": mask.long()})["sentence_embedding"]
    np.testing.assert_allclose((shares @ outputs).detach(), y.detach(), atol=1e-5)
