"""One tower, or two that start the same and are updated separately."""

import pytest
import torch

from polyencoders import BiEncoder, PolyEncoder


@pytest.mark.parametrize("architecture", [BiEncoder, PolyEncoder])
def test_two_towers_start_identical_and_are_separate(tiny_backbone, architecture):
    model = architecture(tiny_backbone, shared_tower=False)
    query, document = (dict(model.route(task)[0].named_parameters()) for task in ("query", "document"))
    assert not model.shared_tower
    assert query.keys() == document.keys()
    for name in query:
        assert torch.equal(query[name], document[name])
        assert query[name] is not document[name]
        assert query[name].data_ptr() != document[name].data_ptr()
    assert {id(weights) for weights in [*query.values(), *document.values()]} <= {id(w) for w in model.parameters()}


@pytest.mark.parametrize("architecture", [BiEncoder, PolyEncoder])
def test_a_shared_tower_is_one(tiny_backbone, architecture):
    shared, separate = architecture(tiny_backbone), architecture(tiny_backbone, shared_tower=False)
    assert shared.shared_tower
    assert shared.route("query")[0] is shared.route("document")[0]
    tower = sum(weights.numel() for weights in shared.route("query")[0].parameters())
    count = [sum(weights.numel() for weights in model.parameters()) for model in (shared, separate)]
    assert count[1] - count[0] == tower


def test_the_two_kinds_score_alike_before_training(tiny_backbone):
    pairs = [("a query", "a document"), (["turn", "turn"], "another")]
    scores = [BiEncoder(tiny_backbone, shared_tower=shared).predict(pairs) for shared in (True, False)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_step_on_one_tower_leaves_the_other(tiny_backbone):
    model = BiEncoder(tiny_backbone, shared_tower=False)
    document = model.encode_document("a document").copy()
    query = model.encode_query("a query").copy()
    with torch.no_grad():
        for weights in model.route("query")[0].parameters():
            weights += 0.1
    assert (model.encode_document("a document") == document).all()
    assert (model.encode_query("a query") != query).any()


def test_gradients_reach_both_sides_and_the_codes(build):
    for name in ("bi-attention", "poly-first", "poly-learnt"):
        model = build(name, shared_tower=False)
        query = model(model.preprocess(["a query"], task="query"))["sentence_embedding"]
        document = model(model.preprocess(["a document"], task="document"))["sentence_embedding"]
        model.similarity(query, document).sum().backward()
        for task in ("query", "document"):
            assert model.route(task)[0].model.get_input_embeddings().weight.grad.any()
        codes = next((module for module in model.route("query") if hasattr(module, "codes")), None)
        for weights in codes.parameters():
            assert weights.grad.any()


def test_a_frozen_transformer_runs_without_dropout_while_the_rest_trains(build):
    model = build("poly-learnt")
    model.train()
    assert model.route("query")[0].training
    for weights in model.route("query")[0].parameters():
        weights.requires_grad = False
    model.train()
    assert not model.route("query")[0].training
    assert not any(module.training for module in model.route("query")[0].modules())
    assert model.query_codes.training
