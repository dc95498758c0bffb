"""Each equation of the paper as a plain loop over the transformer's own outputs, against the models, to 1e-5."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from polyencoders import BiEncoder, PolyEncoder

TEXTS = ["hiking", "which trail do you take?", "if it stays dry, we go to the hills and come back by train", ""]


def outputs(path, text):
    """h_1..h_N of one text, as lists of floats: no batch, no padding, nothing of ours."""
    tokens = AutoTokenizer.from_pretrained(path)(text, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(path).eval()(**tokens).last_hidden_state[0].tolist()


@pytest.fixture(scope="module")
def token_outputs(tiny_backbone):
    return [outputs(tiny_backbone, text) for text in TEXTS]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def weighted_sum(weights, vectors):
    return [sum(w * v[k] for w, v in zip(weights, vectors, strict=True)) for k in range(len(vectors[0]))]


def softmax(logits):
    exponentials = [math.exp(x - max(logits)) for x in logits]
    return [e / sum(exponentials) for e in exponentials]


def unit(vector):
    return [x / math.sqrt(dot(vector, vector)) for x in vector]


def times(matrix, vector):
    return [dot(row, vector) for row in matrix]


def paper_reduction(h, name, n):
    """`red` of section 4.2."""
    if name == "first":
        return h[0]
    if name == "max":
        return [max(row[k] for row in h) for k in range(len(h[0]))]
    kept = h[:n] if name == "mean-first-n" else h
    return weighted_sum([1 / len(kept)] * len(kept), kept)


def step(after):
    """The step of the bias of an output that so many follow: T5's, which are exact near by and then widen."""
    return after if after < 8 else min(31, 8 + math.floor(4 * math.log2(after / 8)))


def paper_codes(h, kind, m, learnt=None, biases=None):
    """The context codes of section 4.4; in a text of m outputs or fewer, those there are, each once."""
    if kind == "learnt":
        steps = [step(after) for after in reversed(range(len(h)))]
        biases = biases or [[0.0] * 32 for _ in learnt]
        return [
            weighted_sum(softmax([dot(c, h_j) + b[s] for h_j, s in zip(h, steps, strict=True)]), h)
            for c, b in zip(learnt, biases, strict=True)
        ]
    if kind == "first":
        return h[:m]
    last = h[max(0, len(h) - m) :]
    return [h[0], *last] if kind == "last-and-first" and len(h) > m else last


def paper_score(codes, document, temperature):
    """Equation 2."""
    w = softmax([dot(y, document) / temperature for y in codes])
    return dot(weighted_sum(w, codes), document)


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["first", "mean", "mean-first-n", "max"])
def test_reductions(tiny_backbone, token_outputs, reduction):
    model = BiEncoder(tiny_backbone, reduction=reduction, n=3 if reduction == "mean-first-n" else None)
    expected = [paper_reduction(h, reduction, 3) for h in token_outputs]
    close(model.encode_document(TEXTS), expected)
    close(model.encode_query(TEXTS), expected)
    close(model.predict([(TEXTS[0], TEXTS[1])]), [dot(expected[0], expected[1])])


@pytest.mark.parametrize("maps", ["none", "shared", "each"])
@pytest.mark.parametrize("position_bias", [False, True])
def test_attention_is_the_mean_of_learnt_codes(tiny_backbone, token_outputs, build, maps, position_bias):
    model = build("bi-attention", maps=maps, position_bias=position_bias)
    codes = [mapped_codes(model, h, model.query_codes) for h in token_outputs]
    close(model.encode_query(TEXTS), [paper_reduction(ys, "mean", None) for ys in codes])


def mapped_codes(model, h, module):
    learnt = module.codes.tolist() if module.codes is not None else None
    biases = module.biases.tolist() if module.biases is not None else None
    ys = paper_codes(h, module.kind, module.m, learnt, biases)
    if module.maps == "none":
        return ys
    matrices = module.linear_maps.tolist()
    return [times(matrices[i if module.maps == "each" else 0], y) for i, y in enumerate(ys)]


@pytest.mark.parametrize("maps", ["none", "shared", "each"])
@pytest.mark.parametrize("kind", ["learnt", "first", "last", "last-and-first"])
@pytest.mark.parametrize("m", [1, 4])
def test_query_codes_and_their_score(token_outputs, build, kind, maps, m):
    model = build("poly-learnt", codes=kind, maps=maps, m=m, temperature=0.7)
    encoded = model.encode_query(TEXTS)
    documents = [paper_reduction(h, "mean", None) for h in token_outputs]
    for h, codes in zip(token_outputs, encoded, strict=True):
        if maps == "each" and kind == "last-and-first" and len(h) <= m:
            continue  # which map a code has when h_1 is not there as well: tested below
        expected = mapped_codes(model, h, model.query_codes)
        close(codes[codes.any(-1)], expected)
        scores = model.similarity(codes, np.array(documents, dtype=np.float32))[0]
        close(scores, [paper_score(expected, document, 0.7) for document in documents])


def test_with_a_map_each_the_last_codes_keep_theirs_where_the_first_output_is_among_them(token_outputs, build):
    model = build("poly-learnt", codes="last-and-first", maps="each", m=3)
    h = token_outputs[3]  # [CLS] and [SEP] alone: fewer than m
    first, *last = model.encode_query([TEXTS[3]])[0]
    matrices = model.query_codes.linear_maps.tolist()
    assert len(h) == 2
    assert not first.any()
    close(last, [times(matrices[1], h[0]), times(matrices[2], h[1]), [0.0] * 16])


def test_with_normalisation_the_score_attends_over_cosines(tiny_backbone, token_outputs, build):
    model = build("poly-learnt", normalize=True, temperature=0.1)
    documents = [unit(paper_reduction(h, "mean", None)) for h in token_outputs]
    codes = [[unit(y) for y in mapped_codes(model, h, model.query_codes)] for h in token_outputs]
    close(model.encode_document(TEXTS), documents)
    close(model.encode_query(TEXTS), codes)
    close(
        model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS)),
        [[paper_score(ys, document, 0.1) for document in documents] for ys in codes],
    )


def test_a_cross_encoder_is_the_first_output_of_both_texts_times_w(tiny_backbone, built):
    model = built("cross")
    tokens = AutoTokenizer.from_pretrained(tiny_backbone)(TEXTS[1], TEXTS[2], return_tensors="pt")
    with torch.no_grad():
        first = AutoModel.from_pretrained(tiny_backbone).eval()(**tokens).last_hidden_state[0, 0].tolist()
    close(model.predict((TEXTS[1], TEXTS[2])), dot(first, model[2].linear.weight[0].tolist()))


@pytest.mark.parametrize("name", ["poly-learnt", "bi-attention"])
def test_a_position_bias_starts_as_none(tiny_backbone, name):
    models = []
    for position_bias in (False, True):
        torch.manual_seed(0)
        settings = {"reduction": "attention"} if name == "bi-attention" else {}
        architecture = BiEncoder if settings else PolyEncoder
        models.append(architecture(tiny_backbone, m=2, position_bias=position_bias, **settings))
    np.testing.assert_array_equal(*(model.encode_query(TEXTS) for model in models))


def test_the_real_backbone_obeys_them_too(backbone):
    torch.manual_seed(0)
    model = PolyEncoder(backbone, m=2, maps="none", temperature=1.0, normalize=False)
    h, g = outputs(backbone, TEXTS[1]), outputs(backbone, TEXTS[2])
    codes = paper_codes(h, "learnt", 2, model.query_codes.codes.tolist())
    close(model.encode_query(TEXTS[:3])[1], codes)
    close(model.predict((TEXTS[1], TEXTS[2])), paper_score(codes, paper_reduction(g, "mean", None), 1.0))


def test_a_bi_encoder_without_settings_is_the_backbone_as_it_comes(backbone):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import cos_sim

    plain = SentenceTransformer(backbone)
    model = BiEncoder(backbone)
    close(model.encode_document(TEXTS), plain.encode(TEXTS))
    close(model.encode_query(TEXTS), plain.encode(TEXTS))
    expected = cos_sim(plain.encode(TEXTS), plain.encode(TEXTS))
    close(model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS)), expected)
    close(model.predict([(a, b) for a in TEXTS for b in TEXTS]), expected.flatten())


def test_folding_the_document_map_keeps_the_scores_and_gives_the_backbones_vectors(backbone, build):
    from sentence_transformers import SentenceTransformer

    for name in ("poly-learnt", "bi"):
        model = build(name, path=backbone, document_map=True)
        scores = model.predict([(a, b) for a in TEXTS for b in TEXTS])
        assert not np.allclose(model.encode_document(TEXTS), SentenceTransformer(backbone).encode(TEXTS), atol=1e-3)
        model.fold_document_map()
        assert not model.document_map
        close(model.predict([(a, b) for a in TEXTS for b in TEXTS]), scores)
        close(model.encode_document(TEXTS), SentenceTransformer(backbone).encode(TEXTS))
        model.fold_document_map()
        close(model.predict([(a, b) for a in TEXTS for b in TEXTS]), scores)


def test_the_query_map_multiplies_the_query_alone(token_outputs, build):
    model = build("bi", query_map=True)
    matrix = model.route("query")[-1].linear.weight.tolist()
    close(model.encode_query(TEXTS), [times(matrix, paper_reduction(h, "mean", None)) for h in token_outputs])
    close(model.encode_document(TEXTS), [paper_reduction(h, "mean", None) for h in token_outputs])


def test_the_mean_of_the_first_n_may_be_the_querys_alone(tiny_backbone, token_outputs):
    model = BiEncoder(tiny_backbone, reduction="mean-first-n", n=2, document_reduction="max")
    assert (model.reduction, model.document_reduction, model.n) == ("mean-first-n", "max", 2)
    close(model.encode_query(TEXTS), [paper_reduction(h, "mean-first-n", 2) for h in token_outputs])
    close(model.encode_document(TEXTS), [paper_reduction(h, "max", None) for h in token_outputs])
