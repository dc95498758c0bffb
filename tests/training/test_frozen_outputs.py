"""Training on kept outputs is training on text, without the transformer."""

import numpy as np
import pytest
import torch
from sentence_transformers.base.modules import Transformer

from polyencoders import BiEncoder, PolyEncoder
from polyencoders.training import TrainingOptions, freeze, train
from polyencoders.training.frozen import FrozenOutputs

QUERIES = ["tea", ["Hello.", "Do you like trains?"], "word " * 40]
DOCUMENTS = ["Yes, every day.", "No.", "word " * 40, "tea"]

MODELS = {
    "poly": (PolyEncoder, {}),
    "poly, two towers": (PolyEncoder, {"shared_tower": False}),
    "poly, both maps": (PolyEncoder, {"document_map": True, "m": 2}),
    "poly, first outputs": (PolyEncoder, {"codes": "first", "maps": "each", "m": 3}),
    "poly, only a document map": (PolyEncoder, {"codes": "last-and-first", "m": 2, "document_map": True}),
    "bi, attention": (BiEncoder, {"reduction": "attention"}),
    "bi, a query map": (BiEncoder, {"query_map": True, "reduction": "mean-first-n", "n": 3}),
    "bi, both maps, two towers": (BiEncoder, {"query_map": True, "document_map": True, "shared_tower": False}),
}


@pytest.fixture(params=MODELS)
def frozen(request, tiny_backbone):
    """A model whose maps and codes are not where they started, with its backbone frozen."""
    architecture, settings = MODELS[request.param]
    torch.manual_seed(0)
    model = architecture(tiny_backbone, device="cpu", query_length=24, **settings)
    freeze(model, "backbone")
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(torch.randn_like(weights) * 0.1)
    return model.eval()


@pytest.fixture
def calls(monkeypatch):
    """How many texts went through a transformer."""
    seen = []
    forward = Transformer.forward
    monkeypatch.setattr(
        Transformer,
        "forward",
        lambda self, features, **kw: seen.append(len(features["input_ids"])) or forward(self, features, **kw),
    )
    return seen


def encoded(model):
    return model.encode_query(QUERIES), model.encode_document(DOCUMENTS)


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-3), (True, 0.05)])
def test_the_same_embeddings_as_from_text(bf16, tolerance, frozen, calls):
    expected = encoded(frozen)
    outputs = FrozenOutputs(frozen, bf16=bf16)
    assert outputs.useful
    outputs.prepare(QUERIES, "query")
    outputs.prepare(DOCUMENTS, "document")
    calls.clear()
    with outputs.applied():
        found = encoded(frozen)
        scores = frozen.predict([("tea", "No."), (QUERIES[1], DOCUMENTS[2])])
    assert calls == []
    for these, those in zip(found, expected, strict=True):
        assert these.shape == those.shape
        assert abs(these - those).max() <= tolerance * abs(those).max()
    texts = frozen.predict([("tea", "No."), (QUERIES[1], DOCUMENTS[2])])
    assert abs(scores - texts).max() <= 2 * tolerance * max(1, abs(texts).max())
    assert np.array_equal(encoded(frozen)[0], expected[0]), "and from text again afterwards"


def test_each_text_is_computed_once(frozen, calls):
    FrozenOutputs(frozen).prepare([*QUERIES, *QUERIES], "query")
    assert sum(calls) == len(QUERIES)
    FrozenOutputs(frozen).prepare(QUERIES, "query")
    assert sum(calls) == len(QUERIES), "another process finds them too: they are on disk"
    FrozenOutputs(frozen).prepare(["a new one"], "query")
    assert sum(calls) == len(QUERIES) + 1


def test_an_unknown_text_is_computed_when_it_is_met(frozen, calls):
    expected = frozen.encode_query(["never prepared"])
    outputs = FrozenOutputs(frozen, bf16=False)
    with outputs.applied():
        found = frozen.encode_query(["never prepared"])
        calls.clear()
        frozen.encode_query(["never prepared"])
    assert calls == []
    assert abs(found - expected).max() <= 1e-3 * abs(expected).max()


def test_progress_counts_every_text(frozen):
    done = []
    FrozenOutputs(frozen, batch_size=2).prepare([*QUERIES, QUERIES[0]], "query", done.append)
    assert sum(done) == 4
    done.clear()
    FrozenOutputs(frozen).prepare(QUERIES, "query", done.append)
    assert sum(done) == 3


def test_more_texts_than_are_written_at_once(tiny_backbone, monkeypatch):
    monkeypatch.setattr("polyencoders.training.frozen.TEXTS_AT_ONCE", 4)
    model = PolyEncoder(tiny_backbone, device="cpu")
    freeze(model, "backbone")
    outputs = FrozenOutputs(model, batch_size=3, bf16=False)
    texts = [f"text {i} {'and more ' * (i % 5)}" for i in range(11)]
    expected = model.encode_document(texts)
    outputs.prepare(texts, "document")
    with outputs.applied():
        assert abs(model.encode_document(texts) - expected).max() < 1e-2


def path(model, **settings):
    freeze(model, "backbone")
    stores = FrozenOutputs(model, **settings).stores
    return {task: store.path for task, store in stores.items()}


def test_other_weights_or_settings_have_another_file(tiny_backbone):
    def build(**settings):
        return PolyEncoder(tiny_backbone, device="cpu", **settings)

    plain = path(build(), bf16=False)
    assert path(build(m=7), bf16=False) == plain, "codes are not among what is kept"
    assert path(build(), bf16=True)["query"] != plain["query"]
    assert path(build(document_length=16), bf16=False)["document"] != plain["document"]
    assert path(build(reduction="first"), bf16=False)["document"] != plain["document"]
    assert path(build(normalize=True), bf16=False)["document"] != plain["document"]
    shorter, other = build(), build()
    shorter.max_seq_length = 16
    assert path(shorter, bf16=False)["query"] != plain["query"]
    with torch.no_grad():
        next(other.parameters())[5, 3] += 1e-3
    assert path(other, bf16=False)["query"] != plain["query"]


def test_a_query_and_a_document_of_the_same_text_are_not_confused(tiny_backbone):
    """They are cut at different lengths."""
    model = BiEncoder(tiny_backbone, device="cpu", query_map=True, query_length=16, document_length=8)
    freeze(model, "backbone")
    text = "one two three four five six seven eight nine ten"
    expected = model.encode_document([text])
    outputs = FrozenOutputs(model, bf16=False)
    outputs.prepare([text], "query")
    with outputs.applied():
        assert abs(model.encode_document([text]) - expected).max() <= 1e-3 * abs(expected).max()


def test_prompts_are_part_of_the_text(tiny_backbone, calls):
    model = BiEncoder(tiny_backbone, device="cpu", query_map=True, prompts={"query": "ask: "})
    freeze(model, "backbone")
    expected = model.encode_query(QUERIES)
    outputs = FrozenOutputs(model, bf16=False)
    outputs.prepare(QUERIES, "query")
    calls.clear()
    with outputs.applied():
        found = model.encode_query(QUERIES)
    assert calls == []
    assert abs(found - expected).max() <= 1e-3 * abs(expected).max()


def test_nothing_is_kept_where_the_transformer_is_trained(tiny_backbone):
    model = PolyEncoder(tiny_backbone, device="cpu")
    for names in ("embeddings", "all-but-top-1"):
        freeze(model, names)
        assert not FrozenOutputs(model).useful
    towers = PolyEncoder(tiny_backbone, device="cpu", shared_tower=False)
    freeze(towers, "documents")
    assert set(FrozenOutputs(towers).stores) == {"document"}


@pytest.mark.parametrize("damage", [lambda content: content[:5000], lambda content: b"half of" + content[7:]])
def test_a_damaged_file_costs_only_time(damage, tiny_backbone, examples, caplog):
    options = TrainingOptions(steps=2, batch_size=8, freeze="backbone", bf16=False)
    trained = []
    for damaged in (False, True):
        torch.manual_seed(0)
        model = PolyEncoder(tiny_backbone, device="cpu")
        if damaged:
            freeze(model, "backbone")
            for store in FrozenOutputs(model, bf16=False).stores.values():
                store.close()
                store.path.write_bytes(damage(store.path.read_bytes()))
        train(model, examples, options=options)
        trained.append(model.encode_query(QUERIES))
    assert abs(trained[0] - trained[1]).max() <= 1e-2 * abs(trained[0]).max()
    assert "cannot be kept there" in caplog.text or "could not be read" in caplog.text


def test_training_and_validation_compute_nothing_twice(tiny_backbone, examples, calls):
    told = []
    model = PolyEncoder(tiny_backbone, device="cpu")
    options = TrainingOptions(steps=6, batch_size=8, evaluate_every=2, freeze="backbone", candidates=5)
    arguments = {"options": options, "on_texts": lambda *report: told.append(report)}
    result = train(model, examples[:16], examples[16:], **arguments)
    assert len(result.history) == 3
    # 24 queries, and as many documents: the lists to rank are made of the right answers of all.
    assert sum(calls) == 16 + 8 + 16 + 8
    assert {what: (done, total) for what, done, total in told} == {"queries": (24, 24), "documents": (24, 24)}
    assert model.precomputed is None
    calls.clear()
    train(PolyEncoder(tiny_backbone, device="cpu"), examples[:16], examples[16:], **arguments)
    assert calls == []


def test_the_same_result_as_on_text(tiny_backbone, examples, monkeypatch):
    """Kept outputs are float16, so nearly."""
    options = TrainingOptions(steps=10, batch_size=8, freeze="backbone", bf16=False)
    trained = []
    for useful in (True, False):
        monkeypatch.setattr(FrozenOutputs, "useful", useful)
        torch.manual_seed(0)
        model = PolyEncoder(tiny_backbone, device="cpu")
        train(model, examples, options=options)
        trained.append(model.encode_query(QUERIES))
    assert abs(trained[0] - trained[1]).max() <= 1e-2 * abs(trained[1]).max()
    plain = PolyEncoder(tiny_backbone, device="cpu").encode_query(QUERIES)
    assert abs(plain - trained[1]).max() > 1e-2 * abs(trained[1]).max()
