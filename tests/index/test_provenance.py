"""Which model may use an index: the one that made it, by its weights and settings; what is said to any other."""

import json

import pytest
import torch

from polyencoders import CrossEncoder
from polyencoders.errors import IndexingError, ModelError
from polyencoders.index import Index, Maker, verify
from polyencoders.models import load_model


@pytest.fixture
def made(poly, tmp_path):
    """The path of an index that a poly-encoder made."""
    index = Index.create(tmp_path / "x", poly)
    index.add(["amber", "birch", "cedar"])
    return index.path


@pytest.fixture
def made_by_bi(bi, tmp_path):
    """The path of an index that a bi-encoder made."""
    index = Index.create(tmp_path / "bi", bi)
    index.add(["amber", "birch", "cedar"])
    return index.path


@pytest.fixture(scope="module")
def saved(poly, tmp_path_factory):
    """Where the poly-encoder is saved."""
    path = tmp_path_factory.mktemp("models") / "poly"
    poly.save_pretrained(str(path))
    return path


def test_the_model_that_made_it(made, poly, build, saved):
    for model in (poly, build("PolyEncoder", m=3), saved, str(saved), load_model(str(saved))):
        index = Index.open(made, model)
        assert len(index.search("amber")) == 3
        assert index.maker.architecture == "PolyEncoder"


def test_fingerprints_survive_saving(poly, bi, saved, tmp_path):
    bi.save_pretrained(str(tmp_path / "bi"))
    for model, path in (poly, saved), (bi, tmp_path / "bi"):
        before, after = Maker.of(model), Maker.of(load_model(str(path)))
        assert before == after
        assert Maker.parse(str(before)) == before
        json.loads(str(before))


def test_other_weights(made, build):
    model = build("PolyEncoder", m=3)
    with torch.no_grad():
        next(model.route("document")[0].parameters())[0, 0] += 1e-3
    with pytest.raises(ModelError, match=r"the document sides differ \(other weights or settings\)") as raised:
        Index.open(made, model)
    assert "another architecture" not in str(raised.value)


def test_other_weights_on_the_query_side(made, build):
    model = build("PolyEncoder", m=3)
    with torch.no_grad():
        next(model.route("query")[1].parameters()).view(-1)[0] += 1e-3
    with pytest.raises(ModelError, match="other weights or settings on its query side"):
        Index.open(made, model)


@pytest.mark.parametrize(
    "settings",
    [{"m": 4}, {"temperature": 0.5}, {"query_length": 20}, {"codes": "first"}, {"turn_separator": " | "}],
)
def test_other_settings_of_queries_leave_documents_alone(made, poly, build, settings):
    model = build("PolyEncoder", **{"m": 3, **settings})
    own, other = Maker.of(poly), Maker.of(model)
    assert own.documents == other.documents
    assert own.queries != other.queries
    with pytest.raises(ModelError, match="on its query side"):
        Index.open(made, model)
    assert len(Index.open(made, model, accept_documents_from=poly).search("amber")) == 3


@pytest.mark.parametrize("settings", [{"document_length": 20}, {"reduction": "max"}, {"normalize": True}])
def test_other_settings_of_documents(made, build, settings):
    model = build("PolyEncoder", **{"m": 3, **settings})
    with pytest.raises(ModelError, match="the document sides differ"):
        Index.open(made, model)


def test_a_prompt(made, poly, build):
    model = build("PolyEncoder", m=3)
    model.prompts["document"] = "passage: "
    with pytest.raises(ModelError, match="the document sides differ"):
        Index.open(made, model)
    model = build("PolyEncoder", m=3)
    model.prompts["query"] = "query: "
    with pytest.raises(ModelError, match="on its query side"):
        Index.open(made, model)
    assert Maker.of(poly).documents == Maker.of(model).documents


def test_other_dimension(made, build, backbone, tiny_backbone, tmp_path):
    from transformers import AutoTokenizer, BertConfig, BertModel

    config = BertConfig.from_pretrained(tiny_backbone)
    config.hidden_size = 24
    BertModel(config).save_pretrained(tmp_path / "wider")
    AutoTokenizer.from_pretrained(backbone, model_max_length=128).save_pretrained(tmp_path / "wider")
    with pytest.raises(ModelError, match="its vectors have 16 dimensions, the model's 24"):
        Index.open(made, build("PolyEncoder", str(tmp_path / "wider"), m=3))


def test_a_bi_encoders_index_and_a_poly_encoder(made_by_bi, made, poly, bi):
    with pytest.raises(ModelError, match=r"another architecture \(PolyEncoder in place of BiEncoder\)") as raised:
        Index.open(made_by_bi, poly)
    assert "accept_documents_from" in str(raised.value)
    with pytest.raises(ModelError, match=r"another architecture \(BiEncoder in place of PolyEncoder\)"):
        Index.open(made, bi)
    accepted = Index.open(made_by_bi, poly, accept_documents_from=bi)
    expected = Index.open(made, poly).search("amber")
    assert [hit.text for hit in accepted.search("amber")] == [hit.text for hit in expected]
    assert [hit.score for hit in accepted.search("amber")] == pytest.approx([hit.score for hit in expected])
    assert accepted.add(["amber", "delta"]).added == 1


def test_accepting_documents_of_a_model_that_did_not_make_them(made_by_bi, poly, bi, build):
    with pytest.raises(ModelError, match=r"the index was made by BiEncoder.*, not by PolyEncoder.*whose documents you"):
        Index.open(made_by_bi, poly, accept_documents_from=poly)
    with pytest.raises(ModelError, match="whose documents you accept"):
        Index.open(made_by_bi, poly, accept_documents_from=build("BiEncoder", query_length=20))
    other = build("PolyEncoder", m=3, document_length=20)
    with pytest.raises(ModelError, match="the document sides differ"):
        Index.open(made_by_bi, other, accept_documents_from=bi)


@pytest.mark.parametrize("give", [lambda path, model: Index.create(path / "y", model)])
def test_a_cross_encoder_makes_no_vectors(tiny_backbone, made, tmp_path, give):
    model = CrossEncoder(tiny_backbone)
    for refused in (lambda: give(tmp_path, model), lambda: Index.open(made, model)):
        with pytest.raises(ModelError, match="CrossEncoder, which reads query and document together"):
            refused()
    assert not (tmp_path / "y").exists()


def test_no_model_where_one_is_named(tmp_path):
    with pytest.raises(ModelError):
        Index.create(tmp_path / "x", tmp_path / "nowhere")
    assert not (tmp_path / "x").exists()


def test_it_is_loaded_from_where_it_was(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(saved.parent)
    index = Index.create(tmp_path / "x", saved.name)
    index.add(["amber", "birch"])
    monkeypatch.chdir(tmp_path)
    again = Index.open("x")
    assert again.maker.name == str(saved.resolve())
    assert again.model is None
    assert len(again.search("amber")) == 2
    assert again.add(["cedar"]).added == 1


def test_what_lies_there_now_is_another(poly, saved, build, tmp_path):
    place = tmp_path / "model"
    poly.save_pretrained(str(place))
    Index.create(tmp_path / "x", place).add(["amber"])
    build("PolyEncoder", m=5).save_pretrained(str(place))
    with pytest.raises(ModelError, match="query side"):
        Index.open(tmp_path / "x").search("amber")


def test_it_was_given_as_an_object(made):
    index = Index.open(made)
    with pytest.raises(ModelError, match=r"was made by PolyEncoder.*given as an object: open it with model="):
        index.search("amber")
    assert len(index) == 3
    assert len(index.search(torch.ones(1, 3, 16))[0]) == 3
    assert index.delete(where="text = 'amber'") == 1


@pytest.mark.parametrize("documents", [3, 250])
def test_another_model_for_the_queries(small, documents, bi, saved, texts, tmp_path):
    """Told in one version, beside a layout or without; documents, vectors and earlier versions are as before."""
    listed = texts(documents)
    bi.save_pretrained(str(tmp_path / "bi"))
    index = Index.create(tmp_path / "x", tmp_path / "bi")
    index.add(listed)
    before, stored = index.version, index.stored(listed)
    reader = Index.open(index.path)
    old = [hit.score for hit in reader.search("amber")]
    index.set_query_model(saved)
    assert index.version == before + 1
    assert [hit.score for hit in reader.search("amber")] == old
    again = Index.open(index.path)
    assert again.maker.name == str(saved)
    expected = Index.open(tmp_path / "x", saved).search("amber")
    assert [hit.score for hit in again.search("amber")] == [hit.score for hit in expected] != old
    assert all((again.stored(listed)[text] == stored[text]).all() for text in listed)
    assert again.add([{"id": "new", "text": "delta"}]).added == 1
    assert again.delete(["new"]) == 1
    again.compact()
    assert Index.open(index.path).maker == again.maker
    assert verify(index.path) == []
    with pytest.raises(IndexingError, match="does not change"):
        Index.open(index.path, version=before).set_query_model(saved)
