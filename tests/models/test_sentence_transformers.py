"""Models load, from a directory or a hub, through what is public in sentence-transformers, and run no foreign code."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Module, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import nn

import polyencoders
from polyencoders import BiEncoder, CrossEncoder, PolyEncoder
from polyencoders.errors import ModelError

ALLOWED = {"_create_model_card"}  # CONTRIBUTING.md says why
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def private_names(path):
    """The names with an underscore that a file defines in classes, or asks of objects."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = {ast.Attribute: "attr", ast.FunctionDef: "name"}.get(type(node))
        if name and getattr(node, name).startswith("_") and not getattr(node, name).startswith("__"):
            yield getattr(node, name)
        if isinstance(node, ast.ClassDef):
            targets = [
                target for part in node.body for target in getattr(part, "targets", [getattr(part, "target", 0)])
            ]
            yield from (target.id for target in targets if isinstance(target, ast.Name) and target.id.startswith("_"))


def test_no_other_private_name_of_sentence_transformers_is_used():
    classes = (SentenceTransformer, sentence_transformers.CrossEncoder, Module, Router, Transformer, Pooling, Dense)
    theirs = {name for each in (*classes, Normalize) for name in dir(each)} - set(dir(nn.Module))
    folder = Path(polyencoders.__file__).parent
    used = {name for path in folder.glob("models/*.py") for name in private_names(path)}
    assert used & theirs == ALLOWED
    imports = "\n".join(
        ast.unparse(node)
        for path in folder.glob("models/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sentence_transformers")
    )
    assert "import _" not in imports
    assert ", _" not in imports


def test_a_card_that_the_trainer_writes_is_ours(tmp_path, model):
    from sentence_transformers.base.trainer import BaseTrainer

    assert "_create_model_card" in BaseTrainer.create_model_card.__code__.co_names
    model._create_model_card(str(tmp_path), model_name="owner/matcher")
    assert "made with [polyencoders]" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def hub(tmp_path):
    """A hub's cache folder, and a function that puts a directory into it as a model of that name."""

    def put(directory, name):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(COMMIT)
        shutil.copytree(directory, repository / "snapshots" / COMMIT)
        return {"cache_folder": str(tmp_path / "hub"), "local_files_only": True}

    return put


def test_a_saved_model_loads_from_a_hub(tmp_path, model, hub):
    model.save(tmp_path / "model")
    where = hub(tmp_path / "model", "owner/matcher")
    loaded = polyencoders.load("owner/matcher", **where)
    assert type(loaded) is type(model)
    pairs = [("a query", "a document"), (["Hi!", "Tea?"], "Yes, please.")]
    np.testing.assert_array_equal(loaded.predict(pairs), model.predict(pairs))
    assert loaded.model_card_data.base_model == "owner/matcher"


@pytest.mark.parametrize("architecture", [BiEncoder, PolyEncoder, CrossEncoder])
def test_a_backbone_loads_from_a_hub_by_its_short_name(backbone, hub, architecture):
    organization = architecture.default_huggingface_organization
    where = hub(backbone, f"{organization}/small")
    model = architecture("small", **where)
    assert model.model_card_data.base_model == f"{organization}/small"
    if architecture is not CrossEncoder:
        expected = SentenceTransformer(backbone).encode(["Pancakes."])
        np.testing.assert_allclose(model.encode_document(["Pancakes."]), expected, atol=1e-6)


def test_modules_of_others_need_trust_and_ours_do_not(tmp_path, model):
    model.save(tmp_path / "model")
    type(model)(tmp_path / "model")
    listed = tmp_path / "model" / "modules.json"
    parts = json.loads(listed.read_text())
    parts[-1]["type"] = "somebody.elses.Layer"
    listed.write_text(json.dumps(parts))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        type(model)(tmp_path / "model")
    listed.unlink()
    with pytest.raises(ModelError, match=r"it has no modules.json"):
        type(model)(tmp_path / "model")


@pytest.mark.parametrize("part", ["../elsewhere", "/etc"])
def test_parts_lie_in_the_directory(tmp_path, built, part):
    built("arc-ii").save(tmp_path / "model")
    listed = tmp_path / "model" / "modules.json"
    listed.write_text(json.dumps([{**json.loads(listed.read_text())[0], "path": part}]))
    with pytest.raises(ValueError, match=r"\.\./elsewhere|/etc"):
        polyencoders.load(tmp_path / "model")


def test_a_class_may_move_to_another_file(tmp_path, built):
    model = built("poly-learnt")
    model.save(tmp_path / "model")
    listed = tmp_path / "model" / "1_Router" / "router_config.json"
    listed.write_text(listed.read_text().replace("polyencoders.models.query_codes.", "polyencoders.elsewhere."))
    loaded = polyencoders.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode_query("a query"), model.encode_query("a query"))


def test_prompts_are_saved_and_those_given_count_more(tmp_path, build):
    model = build("bi", prompts={"query": "search: ", "document": "text: "})
    model.save(tmp_path / "model")
    assert BiEncoder(tmp_path / "model").prompts == {"query": "search: ", "document": "text: "}
    given = BiEncoder(tmp_path / "model", prompts={"query": ""})
    assert given.prompts == {"query": "", "document": "text: "}


def test_an_activation_that_was_saved_is_applied(tmp_path, build):
    model = build("cross", activation_fn=nn.Tanh())
    model.activation_fn = nn.Tanh()
    model.save(tmp_path / "model")
    assert isinstance(CrossEncoder(tmp_path / "model").activation_fn, nn.Tanh)
    assert isinstance(CrossEncoder(tmp_path / "model", activation_fn=nn.Identity()).activation_fn, nn.Identity)
