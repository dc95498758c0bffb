"""A model on a hub, its graphs beside the weights, and results on its card: against a double of the hub on disk."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import polyencoders
from polyencoders.errors import ModelError
from polyencoders.evaluation import evaluate, put_results
from polyencoders.evaluation.card import shown_name
from polyencoders.evaluation.tasks import CandidateTask
from polyencoders.export import push_to_hub
from polyencoders.runtime import ExportedEncoder, ExportedPairScorer

TEXTS = ["Which trail?", "I like tea."]
TASK = CandidateTask(["Tea?", "Milk?"], [["Yes.", "No.", "Not now."], ["A little.", "No."]], [[2], [1]])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub whose models are in the cache as soon as they are uploaded; what loads them is the real thing."""
    uploads = []

    class Double:
        def __init__(self, token=None):
            assert token == "secret"

        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, commit_message, **_):
            commit = f"{len(uploads):040d}"
            place = tmp_path / "hub" / f"models--{repo_id.replace('/', '--')}"
            (place / "refs").mkdir(parents=True, exist_ok=True)
            (place / "refs" / "main").write_text(commit)
            shutil.copytree(folder_path, place / "snapshots" / commit)
            uploads.append(place / "snapshots" / commit)
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/{commit}")

    monkeypatch.setattr("sentence_transformers.base.model.HfApi", Double)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "hub"))
    return uploads


@pytest.mark.parametrize(("name", "kind"), [("bi-attention", ExportedEncoder), ("cross-one-way", ExportedPairScorer)])
def test_one_name_serves_with_and_without_pytorch(hub, build, name, kind):
    model = build(name)  # its own: pushing names it
    assert push_to_hub(model, "owner/answers", token="secret").startswith("https://hub/owner/answers/commit/")
    [pushed] = hub
    assert {"README.md", "modules.json", "onnx"} <= {path.name for path in pushed.iterdir()}
    light, heavy = polyencoders.load("owner/answers"), type(model)("owner/answers")
    assert isinstance(light, kind)
    expected = model.score_lists(["Any plans?"], [TEXTS])[0]
    for one in (light, heavy):
        np.testing.assert_allclose(one.score_lists(["Any plans?"], [TEXTS])[0], expected, atol=1e-5)
    card = (pushed / "README.md").read_text(encoding="utf-8")
    assert "polyencoders rank owner/answers" in card
    assert "polyencoders export" not in card


def test_weights_are_not_downloaded_where_there_are_graphs(hub, build):
    push_to_hub(build("bi"), "owner/answers", token="secret")
    for path in hub[0].rglob("*.safetensors"):
        path.unlink()
    assert polyencoders.load("owner/answers").encode_documents(TEXTS).shape == (2, 16)


def test_what_cannot_be_exported_is_not_uploaded(hub, build, monkeypatch):
    def refuse(model, path):
        raise ModelError("no graph")

    monkeypatch.setattr("polyencoders.export.hub.export_model", refuse)
    with pytest.raises(ModelError, match="no graph"):
        push_to_hub(build("bi"), "owner/answers", token="secret")
    assert not hub


def test_results_are_put_on_a_card_and_replaced(tmp_path, built):
    model = built("bi")
    model.save_pretrained(tmp_path / "mine")
    card = tmp_path / "mine" / "README.md"
    assert "none yet" in card.read_text(encoding="utf-8")
    report = evaluate(model, TASK)
    for data in ("held-out.jsonl", "others.jsonl", "held-out.jsonl"):
        put_results(tmp_path / "mine", data, report)
    text = card.read_text(encoding="utf-8")
    r1 = report.metrics["R@1/2-3"]
    row = f"| R@1/2-3 | {r1.mean:.3f} | {r1.low:.3f} to {r1.high:.3f} | 2 |"
    assert text.count(row) == 2
    assert text.count("| held-out.jsonl |") == len(report.metrics)
    known = yaml.safe_load(text.split("---\n")[1])
    [index] = known["model-index"]
    assert [one["dataset"]["name"] for one in index["results"]] == ["others.jsonl", "held-out.jsonl"]
    assert index["results"][0]["metrics"][0]["value"] == pytest.approx(r1.mean, abs=1e-4)
    assert known["library_name"] == "polyencoders"
    type(model)(tmp_path / "mine").save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text(encoding="utf-8") == text


def test_results_on_a_set_whose_name_begins_like_the_head_stay(tmp_path, built):
    built("bi").save_pretrained(tmp_path / "mine")
    report = evaluate(built("bi"), TASK)
    for name in ("data.jsonl", "others.jsonl", "data"):
        put_results(tmp_path / "mine", name, report)
    text = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    found = [text.count(f"| {name} |") for name in ("data.jsonl", "others.jsonl")]
    assert found == [len(report.metrics)] * 2
    assert text.count("| data |") == len(report.metrics) + 1
    assert text.count("| data | protocol |") == 1


def test_the_name_of_a_set_tells_two_files_apart_and_says_not_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["chitchat", "test.jsonl", "a/test.jsonl", "../b/test.jsonl", "mutual:data/mutual"]
    assert [shown_name(name) for name in names] == [*names[:3], "b/test.jsonl", "mutual:data/mutual"]
    assert shown_name(str(tmp_path / "c" / "test.jsonl")) == "c/test.jsonl"
    assert shown_name(f"wikiqa:{tmp_path / 'd' / 'wikiqa'}") == "wikiqa:d/wikiqa"
    assert shown_name(str(tmp_path / "test.jsonl")) == "test.jsonl"


def test_a_folder_without_such_a_card_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no card"):
        put_results(tmp_path, "held-out.jsonl", None)
    Path(tmp_path / "README.md").write_text("Written by hand.")
    with pytest.raises(ModelError, match="no card"):
        put_results(tmp_path, "held-out.jsonl", None)
