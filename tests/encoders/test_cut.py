"""What a model does not see of documents is said: cut, alike after the cut, nothing but unknown tokens."""

import pytest

from polyencoders import BiEncoder, CrossEncoder, load
from polyencoders.encoders.cut import said_of_documents

OPENING = "All rights are reserved, and nothing may be copied. " * 3
CUNEIFORM = ["𒀀𒀁 𒀂𒀃", "𒁀𒁁𒁂", "𒂀 𒂁𒂂", "𒃀𒃁"]
WESTERN = ["Tea is served at four.", "TEA", "tea", "téa", "Kaffee, naïve!", "...", "東京", "?", ""]  # known, every one


@pytest.fixture(scope="module", params=[BiEncoder, CrossEncoder])
def model(request, tiny_backbone):
    return request.param(tiny_backbone)


def test_nothing_is_said_where_all_is_seen(model):
    assert said_of_documents(model, WESTERN, "Cut less.") == []
    assert said_of_documents(model, [], "Cut less.") == []


def test_documents_that_are_cut(tiny_backbone):
    short = BiEncoder(tiny_backbone, document_length=16)
    some = ["Tea.", "Tea for two.", "One two three four. " * 9, OPENING]
    (line,) = said_of_documents(short, some, "Cut less.")
    assert line.startswith("50% of the documents are longer than the 16 tokens that are read of each")
    assert line.endswith("the rest is not seen. Cut less.")
    assert said_of_documents(short, some, None) == [], "in passages all of it is seen"


def test_documents_that_are_alike_after_the_cut(tiny_backbone):
    short = BiEncoder(tiny_backbone, document_length=16)
    (line,) = said_of_documents(short, [OPENING + text for text in ("Tea.", "Milk.", "Rain.")] + ["Tea."], "Cut less.")
    assert "3 of the 4 that were looked at are alike as far as they are read. Cut less." in line


def test_documents_of_nothing_but_unknown_tokens(model):
    (line,) = said_of_documents(model, [*CUNEIFORM, "Tea."], None)
    assert line.startswith("4 of 5 documents that were looked at are nothing but unknown tokens to the model")
    assert line.endswith("Give a model whose vocabulary has their script.")


def test_an_exported_model_says_the_same(tiny_backbone, tmp_path):
    from polyencoders.export import export_model

    made = BiEncoder(tiny_backbone, document_length=16)
    export_model(made, tmp_path / "graph")
    some = [*CUNEIFORM, *(OPENING + text for text in ("Tea.", "Milk."))]
    lines = said_of_documents(load(tmp_path / "graph"), some, "Cut less.")
    assert lines == said_of_documents(made, some, "Cut less.")
    assert len(lines) == 2
