"""Cross-entropy over the batch, against a loop written from its definition."""

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from polyencoders.training import InBatchCrossEntropy
from polyencoders.training.collator import text_id


def naive(model, rows):
    """Rows of query, right answer, explicit negatives: the mean of -log softmax over what is not known to be right."""
    with torch.no_grad():
        documents = [(text, j) for column in range(1, len(rows[0])) for j, text in enumerate(r[column] for r in rows)]
        total = 0.0
        for i, (query, answer, *_) in enumerate(rows):
            right = {other[1] for other in rows if other[0] == query}
            kept = [answer] + [
                text
                for position, (text, j) in enumerate(documents)
                if text not in right and not (position < len(rows) and j == i)
            ]
            vectors = model.encode_document(kept, convert_to_tensor=True)
            scores = model.similarity(model.encode_query([query], convert_to_tensor=True), vectors)[0]
            total -= (scores * model.score_scale).log_softmax(0)[0].item()
    return total / len(rows)


def features(model, rows):
    columns = []
    for number, column in enumerate(zip(*rows, strict=True)):
        column = list(column)
        encoded = model.preprocess(column, task="document" if number else "query")
        columns.append({**encoded, "text_id": torch.tensor([text_id(text) for text in column])})
    return columns


PLAIN = [["a cat", "it purrs"], ["a dog", "it barks"], [["hi", "a cow?"], "it moos loudly, every day"]]


@pytest.fixture(params=[("bi", {}), ("poly", {"m": 3}), ("poly", {"codes": "last-and-first", "normalize": True})])
def model(request, build):
    architecture, settings = request.param
    return build(architecture, **settings).eval()


def loss_of(model, rows, **settings):
    return InBatchCrossEntropy(model, **settings)(features(model, rows)).item()


def test_every_other_answer_is_a_negative(model):
    assert loss_of(model, PLAIN) == pytest.approx(naive(model, PLAIN), abs=1e-5)


def test_a_document_equal_to_the_right_answer_is_no_negative(model):
    rows = [*PLAIN, ["a kitten", "it purrs"]]
    assert loss_of(model, rows) == pytest.approx(naive(model, rows), abs=1e-5)
    distinct = [*PLAIN, ["a kitten", "it purrs!"]]
    assert loss_of(model, rows) != pytest.approx(loss_of(model, distinct), abs=1e-3)


def test_the_other_right_answers_of_a_query_are_no_negatives(model):
    rows = [*PLAIN, ["a cat", "it meows"]]
    assert loss_of(model, rows) == pytest.approx(naive(model, rows), abs=1e-5)


def test_a_right_answer_of_the_query_is_no_negative_where_another_query_has_it_too(model):
    rows = [*PLAIN, ["a cat", "it meows"], ["a lynx", "it meows"]]
    assert loss_of(model, rows) == pytest.approx(naive(model, rows), abs=1e-5)


def test_explicit_negatives_of_all_queries_count(model):
    rows = [[*row, f"no answer {i}", f"another {i}"] for i, row in enumerate(PLAIN)]
    assert loss_of(model, rows) == pytest.approx(naive(model, rows), abs=1e-5)
    assert loss_of(model, rows) > loss_of(model, PLAIN)


def test_an_example_with_fewer_negatives_takes_none_from_the_others(model):
    rows = [[*PLAIN[0], "it flies", "it swims"], [*PLAIN[1], "it reads", ""], [*PLAIN[2], "", ""]]
    documents = [row[1] for row in PLAIN] + ["it flies", "it reads", "it swims"]
    queries = [row[0] for row in PLAIN]
    scores = model.similarity(model.encode_query(queries), model.encode_document(documents)) * model.score_scale
    expected = -scores.log_softmax(1).diagonal().mean().item()
    assert loss_of(model, rows) == pytest.approx(expected, abs=1e-5)


def test_an_explicit_negative_that_answers_another_query_is_a_negative_of_all_but_that(model):
    rows = [[*PLAIN[0], "it barks"], [*PLAIN[1], "no answer"], [*PLAIN[2], "nor this"]]
    assert loss_of(model, rows) == pytest.approx(naive(model, rows), abs=1e-5)


def test_a_conversation_is_not_the_text_it_reads_as(model):
    rows = [[["a", "b"], "it purrs"], [["a b"], "it barks"]]
    assert loss_of(model, rows) == pytest.approx(naive(model, rows), abs=1e-5)
    assert loss_of(model, rows) > 0


def test_one_pair_has_nothing_to_lose(model):
    assert loss_of(model, PLAIN[:1]) == 0


def test_equals_the_loss_of_sentence_transformers_where_no_text_is_there_twice(model):
    theirs = MultipleNegativesRankingLoss(model, scale=model.score_scale, similarity_fct=model.similarity)
    rows = [[*row, f"no answer {i}"] for i, row in enumerate(PLAIN)]
    assert loss_of(model, rows) == pytest.approx(theirs(features(model, rows), None).item(), abs=1e-5)


def test_features_of_another_collator_are_refused(model):
    columns = features(model, PLAIN)
    del columns[1]["text_id"]
    with pytest.raises(ValueError, match=r"train with polyencoders.training.DualEncoderTrainer"):
        InBatchCrossEntropy(model)(columns)
    with pytest.raises(ValueError, match="expected the columns query and positive"):
        InBatchCrossEntropy(model)(columns[:1])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64])
def test_cached_gradients_are_the_gradients(model, size):
    rows = [[*row, f"no answer {i}"] for i, row in enumerate([*PLAIN, ["a kitten", "it purrs"], ["a cat", "it mews"]])]
    results = []
    for mini_batch_size in (None, size):
        model.zero_grad()
        loss = InBatchCrossEntropy(model, mini_batch_size)(features(model, rows))
        loss.backward()
        gradients = {name: weights.grad for name, weights in model.named_parameters() if weights.grad is not None}
        results.append((loss.item(), {name: gradient.clone() for name, gradient in gradients.items()}))
    (loss, gradients), (cached_loss, cached_gradients) = results
    assert cached_loss == pytest.approx(loss, abs=1e-5)
    assert gradients.keys() == cached_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(cached_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_cached_gradients_with_dropout(model):
    model.train()
    loss = InBatchCrossEntropy(model, 2)(features(model, PLAIN))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in model.parameters())
