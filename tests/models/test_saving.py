"""A model is saved whole or not at all, and scores the same, to the last bit, when another process loads it."""

import errno
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from polyencoders import PolyEncoder
from polyencoders.errors import ModelError
from polyencoders.models.fingerprint import fingerprint

QUERY = ["Any plans for the weekend?", "Hiking, if it stays dry."]
DOCUMENTS = ["Which trail?", "I like tea.", "", "the hills " * 40]

LOAD_AND_SCORE = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import polyencoders
from polyencoders.models.fingerprint import fingerprint

asked = json.loads(sys.argv[2])
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    config = json.loads((path / "config_sentence_transformers.json").read_text())
    model = getattr(polyencoders, config["polyencoders"]["architecture"])(path)
    scores = model.predict([(asked["query"], document) for document in asked["documents"]])
    found[path.name] = {
        "scores": [float(score).hex() for score in scores],
        "hits": model.rank(asked["query"], asked["documents"], top_k=2),
        "fingerprint": fingerprint(model.children(), {"setting": 1}),
        "separator": model.turn_separator,
    }
print(json.dumps(found))
"""


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def entries(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_new_process_gives_identical_scores_and_fingerprints(tmp_path, build, built, run_python):
    models = {
        name: built(name) for name in ("bi", "bi-attention", "poly-first", "poly-last", "cross", "cross-warm", "arc-ii")
    }
    models["bi-two-towers"] = build("bi", shared_tower=False, reduction="mean-first-n", n=3, query_map=True)
    models["poly-two-towers"] = build("poly-learnt", shared_tower=False, turn_separator=" / ")
    models["poly-shared"] = build("poly-learnt", query_length=20, document_length=30)
    models["poly-folded"] = build("poly-last-and-first")
    models["poly-folded"].fold_document_map()
    models["arc-ii-short"] = build("arc-ii", query_length=20, document_length=16)
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    asked = json.dumps({"query": QUERY, "documents": DOCUMENTS})
    found = json.loads(run_python(LOAD_AND_SCORE, tmp_path, asked).splitlines()[-1])
    assert found.keys() == models.keys()
    for name, model in models.items():
        scores = model.predict([(QUERY, document) for document in DOCUMENTS])
        assert found[name]["scores"] == [float(score).hex() for score in scores], name
        assert found[name]["hits"] == model.rank(QUERY, DOCUMENTS, top_k=2), name
        assert found[name]["fingerprint"] == fingerprint(model.children(), {"setting": 1}), name
        assert found[name]["separator"] == model.turn_separator


def test_graphs_of_earlier_weights_do_not_stay(tmp_path, build):
    """`polyencoders.load` would take them before the weights."""
    build("bi").save_pretrained(str(tmp_path / "model"))
    (tmp_path / "model" / "onnx").mkdir()
    (tmp_path / "model" / "onnx" / "export.json").write_text("{}")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    build("bi").save_pretrained(str(tmp_path / "model"))
    assert not (tmp_path / "model" / "onnx").exists()
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["poly-learnt", "poly-first", "bi-attention", "cross", "cross-warm", "arc-ii"])
def test_a_reloaded_model_saves_the_same_files_again(tmp_path, built, name):
    built(name).save_pretrained(tmp_path / "first")
    type(built(name))(tmp_path / "first").save_pretrained(tmp_path / "second")
    assert files(tmp_path / "first") == files(tmp_path / "second")


@pytest.mark.parametrize("name", ["poly-learnt", "bi-attention"])
def test_models_saved_before_there_was_a_position_bias_are_as_they_were(tmp_path, build, name):
    model = build(name, position_bias=False)
    model.save_pretrained(tmp_path / "old")
    (config,) = (tmp_path / "old").rglob("*QueryCodes/config.json")
    assert json.loads(config.read_text()).keys() == {"embedding_dimension", "m", "kind", "maps"}
    loaded = type(model)(tmp_path / "old")
    assert not loaded.position_bias
    assert fingerprint(loaded.route("query"), {}) == fingerprint(model.route("query"), {})
    assert fingerprint(build(name).route("query"), {}) != fingerprint(model.route("query"), {})


def test_settings_survive(tmp_path, build):
    settings = {
        "m": 2, "codes": "last", "maps": "shared", "reduction": "mean-first-n", "n": 3, "document_map": True,
        "normalize": True, "temperature": 0.3, "shared_tower": False, "turn_separator": " | ", "query_length": 20,
        "document_length": 30,
    }  # fmt: skip
    build("poly-learnt", **settings).save_pretrained(tmp_path / "model")
    model = PolyEncoder(tmp_path / "model")
    assert {name: getattr(model, name) for name in settings} == settings


def test_pickles_are_refused(tmp_path, model):
    with pytest.raises(ModelError, match="safe_serialization=False, which pickles, is refused"):
        model.save_pretrained(tmp_path / "model", safe_serialization=False)
    assert entries(tmp_path) == []


def test_saving_over_a_model_removes_its_stale_parts_and_keeps_what_is_not_its(tmp_path, built):
    path = tmp_path / "model"
    built("poly-first").save_pretrained(path)  # two towers: query_0_Transformer, ...
    (path / "checkpoints" / "step-1").mkdir(parents=True)
    (path / "checkpoints" / "step-1" / "weights").write_text("kept")
    (path / "notes.txt").write_text("kept")
    built("poly-learnt").save_pretrained(path)
    built("poly-learnt").save_pretrained(tmp_path / "fresh")
    assert entries(path) == sorted([*entries(tmp_path / "fresh"), "checkpoints", "notes.txt"])
    assert (path / "notes.txt").read_text() == (path / "checkpoints" / "step-1" / "weights").read_text() == "kept"
    assert PolyEncoder(path).codes == "learnt"
    assert entries(tmp_path) == ["fresh", "model"]


@pytest.mark.parametrize("other", ["bi", "bi-attention", "poly-last-and-first", "cross", "cross-warm", "arc-ii"])
def test_no_part_of_one_architecture_stays_in_anothers_directory(tmp_path, built, other):
    built(other).save_pretrained(tmp_path / "model")
    built("poly-first").save_pretrained(tmp_path / "model")
    built("poly-first").save_pretrained(tmp_path / "fresh")
    assert files(tmp_path / "model").keys() == files(tmp_path / "fresh").keys()


@pytest.mark.parametrize("there_before", [True, False])
def test_an_error_while_saving_changes_nothing(tmp_path, built, model, monkeypatch, there_before):
    if there_before:
        built("bi").save_pretrained(tmp_path / "model")
    before = files(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # The last module's own save, so that something is written before it fails.
    last = model.route("document")[-1] if hasattr(model, "route") else model[-1]
    monkeypatch.setattr(type(last), "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        model.save_pretrained(tmp_path / "model")
    assert files(tmp_path) == before
    assert entries(tmp_path) == (["model"] if there_before else [])


@pytest.mark.parametrize("most_bytes", [1000, 1_000_000])
def test_a_disk_that_takes_no_more_changes_nothing(tmp_path, built, model, most_bytes):
    """Files may not grow beyond a limit: a real error from the system, at the first file, or at the weights."""
    built("bi").save_pretrained(tmp_path / "model")
    before = files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|could not be written"):
            model.save_pretrained(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == before
    assert entries(tmp_path) == ["model"]


def test_saving_through_a_relative_path_works(tmp_path, built, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built("poly-learnt").save_pretrained("model")
    model = PolyEncoder("model")
    np.testing.assert_array_equal(model.encode_query("a"), built("poly-learnt").encode_query("a"))
    assert entries(tmp_path) == ["model"]


class FakeHub:
    """What huggingface_hub's HfApi is asked to do, and the files it would upload."""

    def __init__(self, token=None):
        type(self).token = token

    def create_repo(self, repo_id, **kwargs):
        return type("RepoUrl", (), {"repo_id": repo_id})()

    def upload_folder(self, repo_id, folder_path, **kwargs):
        type(self).uploaded = files(folder_path)
        return type("CommitInfo", (), {"commit_url": f"https://hub/{repo_id}"})()


@pytest.mark.parametrize("reloaded", [False, True])
def test_pushing_to_a_hub_uploads_what_saving_writes_with_a_card_of_that_name(
    tmp_path, build, monkeypatch, model, reloaded
):
    name = type(model).__name__
    model.save_pretrained(tmp_path / "model")
    expected = files(tmp_path / "model")
    pushed = type(model)(tmp_path / "model")
    if not reloaded:
        pushed.card_text = None  # as a model that was just built has none
    monkeypatch.setattr("sentence_transformers.base.model.HfApi", FakeHub)
    monkeypatch.setattr("sentence_transformers.base.model.load_file_path", lambda *args, **kwargs: None)  # no card yet
    pushed.push_to_hub("owner/matcher", token="secret")
    card = FakeHub.uploaded.pop("README.md").decode()
    expected.pop("README.md")
    assert FakeHub.token == "secret"
    assert FakeHub.uploaded == expected
    assert "# owner/matcher" in card
    assert f'model = {name}("owner/matcher")' in card
    assert "path/to" not in card
