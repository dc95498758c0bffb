"""What is frozen stays as it is, to the bit; the rest is trained."""

import pytest
import torch
from sentence_transformers import SentenceTransformer

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions, freeze, train


def changed(model, examples, freeze, **options):
    """The names of the weights that two steps changed."""
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    options = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "negatives": 2, **options}
    train(model, examples, options=TrainingOptions(freeze=freeze, **options))
    return {name for name, weights in model.named_parameters() if not torch.equal(weights, before[name])}


def used(model):
    """All weights but the pooler's, which BERT has and no encoder of ours reads."""
    return {name for name, _ in model.named_parameters() if "pooler" not in name}


@pytest.mark.parametrize("architecture", ["poly", "bi", "cross", "arc-ii"])
def test_nothing_frozen(architecture, build, examples):
    model = build(architecture)
    assert changed(model, examples, ()) == used(model)


@pytest.mark.parametrize("architecture", ["poly", "cross", "cross-warm"])
def test_embeddings(architecture, build, examples):
    model = build(architecture)
    assert changed(model, examples, "embeddings") == {name for name in used(model) if ".embeddings." not in name}


@pytest.mark.parametrize(("top", "layers"), [(0, ()), (1, ("layer.1.",)), (2, ("layer.0.", "layer.1."))])
@pytest.mark.parametrize("architecture", ["poly", "cross"])
def test_all_but_the_top_layers(architecture, top, layers, build, examples):
    model = build(architecture)
    trained = {name for name in used(model) if not name.startswith("0.") or any(layer in name for layer in layers)}
    assert changed(model, examples, f"all-but-top-{top}") == trained


def test_all_but_the_top_layers_of_the_real_backbone(backbone, examples):
    model = PolyEncoder(backbone, device="cpu", query_length=16, document_length=16)
    found = changed(model, examples[:4], "all-but-top-2")
    assert {name for name in found if name.startswith("0.")} == {
        name for name, _ in model.named_parameters() if ".layer.4." in name or ".layer.5." in name
    }
    assert {name for name in found if not name.startswith("0.")} == {
        name for name, _ in model.named_parameters() if not name.startswith("0.")
    }


TEXTS = ["Yes, tea every day.", "a text that was not trained on", "x"]


@pytest.mark.parametrize(("architecture", "settings"), [("poly", {}), ("poly", {"document_map": True}), ("bi", {})])
@pytest.mark.parametrize("also", [(), ("embeddings",), ("all-but-top-1",)])
def test_documents_of_two_towers(architecture, settings, also, build, examples):
    model = build(architecture, shared_tower=False, **settings)
    documents, queries = model.encode_document(TEXTS), model.encode_query(TEXTS)
    found = changed(model, examples, ["documents", *also])
    assert found
    assert not [name for name in found if ".document." in name]
    assert torch.equal(torch.from_numpy(model.encode_document(TEXTS)), torch.from_numpy(documents))
    assert abs(model.encode_query(TEXTS) - queries).max() > 1e-4


def test_documents_of_a_shared_tower_cannot_be(build):
    with pytest.raises(TrainingError, match=r"while queries share its tower: .*shared_tower=False, or freeze the back"):
        freeze(build("poly"), "documents")


@pytest.mark.parametrize("names", [["backbone", "documents"], ["documents", "backbone"]])
def test_documents_and_a_shared_backbone_in_either_order(names, build):
    model = build("poly", document_map=True)
    freeze(model, names)
    trained = {name for name, weights in model.named_parameters() if weights.requires_grad}
    assert trained == {f"1.sub_modules.query.0.{name}" for name in ("biases", "codes", "linear_maps")}


@pytest.mark.parametrize("architecture", ["cross", "arc-ii"])
def test_documents_of_a_model_that_reads_pairs_cannot_be(architecture, build):
    with pytest.raises(TrainingError, match="has no document side to freeze: it reads pairs"):
        freeze(build(architecture), "documents")


def test_where_nothing_is_left_to_train_the_advice_is_of_that_architecture(build):
    with pytest.raises(TrainingError, match=r"of this PolyEncoder is left to train; give it learnt codes or maps"):
        freeze(build("poly", codes="first", maps="none"), "backbone")
    with pytest.raises(
        TrainingError, match=r"with backbone frozen nothing of this WarmCrossEncoder is left .*; freeze less$"
    ):
        freeze(build("cross-warm"), "backbone")


@pytest.mark.parametrize("settings", [{}, {"document_map": True}, {"shared_tower": False, "document_map": True}])
def test_a_frozen_backbone_keeps_its_document_vectors(settings, backbone, examples):
    model = PolyEncoder(backbone, device="cpu", **settings)
    own = SentenceTransformer(backbone, device="cpu").encode(TEXTS)
    transformers = {name: weights.clone() for name, weights in model.named_parameters() if ".encoder.layer." in name}
    result = train(model, examples, options=TrainingOptions(steps=5, batch_size=8, freeze="backbone"))
    assert result.steps == 5
    assert not model.document_map, "folded into the query side"
    assert abs(model.encode_document(TEXTS) - own).max() < 1e-6
    now = dict(model.named_parameters())
    assert transformers
    assert all(torch.equal(now[name], weights) for name, weights in transformers.items())


def test_the_fold_keeps_the_scores(build, examples, tmp_path):
    model = build("poly", document_map=True)
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    train(model, examples, output_dir=tmp_path / "run", options=TrainingOptions(steps=20, freeze="backbone"))
    again = PolyEncoder(str(tmp_path / "run"), device="cpu")
    assert not again.document_map
    assert list(again.predict([("Hello.", text) for text in TEXTS])) == list(
        model.predict([("Hello.", text) for text in TEXTS])
    )
    learnt = [name for name, weights in model.named_parameters() if name not in before]
    assert len(learnt) == 1
    assert not torch.equal(dict(model.named_parameters())[learnt[0]], torch.eye(16)), "the map was trained"


def test_a_cross_encoder_on_a_frozen_backbone(build, examples):
    model = build("cross")
    assert changed(model, examples, "backbone") == {name for name in used(model) if not name.startswith("0.")}


def test_nothing_left_to_train(build):
    for settings in ({"codes": "first"}, {"codes": "last", "m": 2}):
        with pytest.raises(TrainingError, match="with backbone frozen nothing of this PolyEncoder is left to train"):
            freeze(build("poly", **settings), "backbone")
    freeze(build("bi", query_map=True), "backbone")
    freeze(build("poly", codes="first", maps="each"), "backbone")


@pytest.mark.parametrize("name", ["layers", "all-but-top-", "all-but-top--1", "Backbone", "query"])
def test_an_unknown_name_lists_the_choices(name, build):
    with pytest.raises(TrainingError, match=f"cannot freeze '{name}'; what can be frozen: embeddings, all-but-top-K"):
        freeze(build("poly"), name)


def test_more_layers_than_there_are(build):
    with pytest.raises(TrainingError, match="all-but-top-3: the backbone has 2 layers"):
        freeze(build("poly"), "all-but-top-3")


def test_arc_ii_has_no_transformer(build):
    with pytest.raises(TrainingError, match="ArcII has no transformer to freeze"):
        freeze(build("arc-ii"), "embeddings")


def test_freezing_again_forgets_what_was_frozen(build):
    model = build("poly")
    freeze(model, "backbone")
    freeze(model, "embeddings")
    frozen = {name for name, weights in model.named_parameters() if not weights.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".embeddings." in name}


def test_a_frozen_transformer_runs_without_dropout(tiny_backbone):
    model = BiEncoder(tiny_backbone, device="cpu", query_map=True)
    features = dict(model.preprocess(TEXTS, task="query"))

    def twice():
        return [model(dict(features))["sentence_embedding"] for _ in range(2)]

    model.train()
    first, second = twice()
    assert not torch.equal(first, second)
    freeze(model, "backbone")
    model.train()
    first, second = twice()
    assert torch.equal(first, second)
