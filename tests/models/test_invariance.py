"""A score depends on its query and its document, and on nothing that happens to be beside them."""

import numpy as np
import pytest
import torch

from polyencoders.models import QueryCodes
from polyencoders.models.reductions import MeanOfFirst

QUERY = ["Any plans for the weekend?", "Hiking, if it stays dry."]
DOCUMENTS = ["Which trail?", "I like tea.", "A", "", "the hills " * 40, "Take the train to the lake and walk back."]


def close(actual, expected):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-4, atol=1e-5)


@pytest.fixture
def expected(model):
    """The scores of each pair by itself: nothing in the batch but the pair."""
    return [float(model.predict([(QUERY, document)])[0]) for document in DOCUMENTS]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_batch_size_and_long_neighbours_do_not_matter(model, expected, batch_size):
    close(model.predict([(QUERY, document) for document in DOCUMENTS], batch_size=batch_size), expected)
    queries = ["word " * 100, QUERY, "a"]
    scores = model.score_lists(queries, [DOCUMENTS] * 3, batch_size=batch_size)
    close(scores[1], expected)


def test_the_order_of_candidates_does_not_matter(model, expected):
    order = [3, 5, 0, 4, 1, 2]
    hits = model.rank(QUERY, [DOCUMENTS[i] for i in order])
    close([hit["score"] for hit in hits], sorted(expected, reverse=True))
    for hit in hits:
        close(hit["score"], expected[order[hit["corpus_id"]]])


def test_one_query_and_one_candidate_work(model, expected):
    [hit] = model.rank(QUERY, [DOCUMENTS[0]])
    assert hit["corpus_id"] == 0
    close(hit["score"], expected[0])
    [[score]] = model.score_lists([QUERY], [[DOCUMENTS[0]]])
    close(score, expected[0])


@pytest.mark.parametrize("text", ["", "a"])
def test_texts_of_no_token_and_of_one_work(model, text):
    assert np.isfinite(model.predict([(text, text), (text, "a longer text"), ("a longer text", text)])).all()


@pytest.mark.parametrize("kind", ["learnt", "first", "last", "last-and-first"])
def test_one_code_and_more_codes_than_tokens_work(build, kind):
    for m in (1, 50):
        model = build("poly-learnt", codes=kind, m=m, maps="none")
        codes = model.encode_query(["a", "word " * 30])
        assert codes.shape == (2, m + (kind == "last-and-first"), 16)
        if kind != "learnt":
            # "a" is [CLS] a [SEP]; a code that there is no output for is zeros, and takes no part.
            assert codes[0].any(-1).sum() == min(3, m + (kind == "last-and-first"))
        assert np.isfinite(model.predict([("a", "b"), ("word " * 30, "b")])).all()


def test_with_every_output_a_code_first_and_last_are_the_same(build):
    scores = [
        build("poly-learnt", codes=kind, m=50, maps="none").predict([(QUERY, document) for document in DOCUMENTS])
        for kind in ("first", "last", "last-and-first")
    ]
    close(scores[1], scores[0])
    close(scores[2], scores[0])


def padded(rows, side, width=9):
    outputs, mask = torch.full((len(rows), width, rows[0].shape[1]), 1e3), torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        places = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        outputs[i, places], mask[i, places] = row, 1
    return {"token_embeddings": outputs, "attention_mask": mask}


@pytest.mark.parametrize(
    "module",
    [
        *(
            QueryCodes(4, 3, kind, maps)
            for kind in ("learnt", "first", "last", "last-and-first")
            for maps in ("none", "each")
        ),
        MeanOfFirst(4, 3),
    ],
    ids=lambda module: f"{getattr(module, 'kind', 'mean-of-first')}-{getattr(module, 'maps', '')}",
)
def test_padding_on_either_side_changes_nothing(module):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(length, 4, generator=generator) for length in (1, 2, 3, 4, 9)]
    results = [module(padded(rows, side))["sentence_embedding"] for side in ("right", "left")]
    alone = torch.cat(
        [
            module({"token_embeddings": row[None], "attention_mask": torch.ones(1, len(row))})["sentence_embedding"]
            for row in rows
        ]
    )
    for result in results:
        torch.testing.assert_close(result, alone)
