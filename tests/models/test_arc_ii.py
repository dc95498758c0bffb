"""ARC-II against nested loops written from its equations, on an instance small enough to follow."""

import numpy as np
import pytest
import torch
from torch import nn

from polyencoders import ArcII
from polyencoders.models.arc_ii import ConvolutionalInteraction

LENGTH = 16


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    module = ConvolutionalInteraction(
        vocabulary=11, embedding_dimension=2, query_length=LENGTH, document_length=LENGTH, channels=3, hidden=8
    ).double()
    for weights in module.parameters():
        nn.init.normal_(weights, std=0.5)  # the usual start leaves a network of this size with nothing but zeros
    return module


def features(queries, documents):
    """Token ids, padded to the fixed lengths."""
    made = {}
    for side, rows in (("query", queries), ("document", documents)):
        ids = torch.zeros(len(rows), LENGTH, dtype=torch.long)
        mask = torch.zeros(len(rows), LENGTH, dtype=torch.float64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        made |= {f"{side}_ids": ids, f"{side}_mask": mask}
    return made


def first_layer(module, query, document):
    """z1: for each pair of windows, relu(W [x_i; y_j] + b), and 0 where one of them holds no token."""
    embeddings = module.embeddings.weight.tolist()
    w_x, w_y = module.query_windows.weight.tolist(), module.document_windows.weight.tolist()
    bias, channels, places = module.query_windows.bias.tolist(), module.channels, LENGTH - module.window + 1

    def window(tokens, start):
        """The embeddings of a window: nothing but zeros where the text has ended."""
        return [embeddings[tokens[k]] if k < len(tokens) else [0.0, 0.0] for k in range(start, start + module.window)]

    z = [[[0.0] * places for _ in range(places)] for _ in range(channels)]
    for c in range(channels):
        for i in range(places):
            for j in range(places):
                if i >= len(query) or j >= len(document):
                    continue
                total = bias[c]
                for k, (x, y) in enumerate(zip(window(query, i), window(document, j), strict=True)):
                    for d in range(2):
                        total += w_x[c][d][k] * x[d] + w_y[c][d][k] * y[d]
                z[c][i][j] = max(0.0, total)
    return z


def pooled(z):
    """The largest of each 2 x 2; a last odd row or column is left out."""
    half = len(z[0]) // 2
    return [
        [[max(plane[2 * i + a][2 * j + b] for a in (0, 1) for b in (0, 1)) for j in range(half)] for i in range(half)]
        for plane in z
    ]


def convolved(module, z):
    """relu of the 3 x 3 convolution over all channels."""
    weights, bias, places = module.convolution.weight.tolist(), module.convolution.bias.tolist(), len(z[0]) - 2
    out = [[[0.0] * places for _ in range(places)] for _ in weights]
    for c, kernel in enumerate(weights):
        for i in range(places):
            for j in range(places):
                total = bias[c]
                for channel, plane in enumerate(z):
                    for a in range(3):
                        for b in range(3):
                            total += kernel[channel][a][b] * plane[i + a][j + b]
                out[c][i][j] = max(0.0, total)
    return out


def score(module, query, document):
    z = pooled(convolved(module, pooled(first_layer(module, query, document))))
    x = [value for plane in z for row in plane for value in row]
    for layer, nonlinear in ((module.mlp[1], True), (module.mlp[3], False)):
        x = [
            sum(w * value for w, value in zip(row, x, strict=True)) + b
            for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        ]
        x = [max(0.0, value) for value in x] if nonlinear else x
    return x[0]


def test_it_is_its_equations(tiny):
    queries = [[1, 2, 3, 4, 5], list(range(1, 11)) + [1] * 6, [7]]
    documents = [[6, 7], [3] * 16, [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    scores = tiny(features(queries, documents))["scores"]
    assert scores.shape == (3, 1)
    expected = [score(tiny, query, document) for query, document in zip(queries, documents, strict=True)]
    np.testing.assert_allclose(scores[:, 0].tolist(), expected, rtol=1e-9, atol=1e-12)
    assert len({round(value, 6) for value in expected}) == 3


def test_windows_of_padding_alone_give_nothing_whatever_the_bias(tiny):
    given = features([[1, 2], []], [[3], [4]])
    seen = {}
    tiny.convolution.register_forward_pre_hook(lambda module, args: seen.update(z2=args[0]))
    with torch.no_grad():
        tiny.query_windows.bias.fill_(5.0)
    tiny(given)
    assert seen["z2"][0, :, 0, 0].all()  # the first windows hold tokens
    assert not seen["z2"][0, :, 1:].any()
    assert not seen["z2"][0, :, :, 1:].any()
    assert not seen["z2"][1].any()  # an empty query: no window holds a token


def test_ids_under_the_padding_do_not_matter(tiny):
    given = features([[1, 2, 3]], [[4, 5]])
    expected = tiny(dict(given))["scores"].item()
    given["query_ids"][0, 3:] = 9
    given["document_ids"][0, 2:] = 8
    assert tiny(given)["scores"].item() == expected


def test_every_weight_is_used(tiny):
    tiny(features([[1, 2, 3, 4, 5, 6]], [[7, 8, 9, 10, 1, 2]]))["scores"].sum().backward()
    for name, weights in tiny.named_parameters():
        assert weights.grad.any(), name


def test_lengths_are_fixed_and_what_is_beyond_them_does_not_matter(build):
    model = build("arc-ii", query_length=20, document_length=16)
    assert model.max_seq_length == 36
    long, longer = " ".join(["word"] * 30), " ".join(["another"] * 30 + ["word"] * 30)
    for query, document in ((long, long), (longer, long + " and more")):
        assert model.predict((query, document)) == pytest.approx(model.predict((long, long)), abs=1e-6)


def test_it_starts_with_the_backbones_word_embeddings(tiny_backbone):
    from transformers import AutoModel

    words = AutoModel.from_pretrained(tiny_backbone).get_input_embeddings().weight
    assert torch.equal(ArcII(tiny_backbone)[0].embeddings.weight, words)


@pytest.mark.parametrize("length", [16, 17, 18, 19])
def test_the_shortest_lengths_leave_something_to_pool(length):
    module = ConvolutionalInteraction(11, 2, query_length=length, document_length=16, channels=2)
    ids, mask = torch.ones(1, length, dtype=torch.long), torch.ones(1, length)
    given = {"query_ids": ids, "query_mask": mask, "document_ids": ids[:, :16], "document_mask": mask[:, :16]}
    assert module(given)["scores"].shape == (1, 1)
