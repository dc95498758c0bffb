"""The card of a saved model is true, can be run as it stands, and says nothing of the machine it was made on."""

import re
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from polyencoders import BiEncoder, PolyEncoder


def saved_card(model, path):
    model.save_pretrained(path)
    return (path / "README.md").read_text(encoding="utf-8")


def test_the_usage_code_runs(tmp_path, model, monkeypatch):
    card = saved_card(model, tmp_path / "model")
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert f"from polyencoders import {type(model).__name__}" in code
    names = {}
    exec(code.replace("path/to/this/model", str(tmp_path / "model")), names)
    assert type(names["model"]) is type(model)
    assert len(names["model"].rank(["a", "b"], ["c", "d"], top_k=1)) == 1


def test_no_path_of_the_machine_is_in_any_file(tmp_path, model, tiny_backbone):
    saved_card(model, tmp_path / "model")
    again = type(model)(tmp_path / "model")
    saved_card(again, tmp_path / "again")
    for path in [*(tmp_path / "model").rglob("*"), *(tmp_path / "again").rglob("*")]:
        if path.suffix in (".md", ".json"):
            text = path.read_text(encoding="utf-8")
            for trace in (str(tmp_path), tiny_backbone, str(Path.home()) + "/", Path(tiny_backbone).parent.name):
                assert trace not in text, f"{trace} in {path.name}"


def test_it_says_what_the_model_is(tmp_path, built):
    card = saved_card(built("poly-last"), tmp_path / "model")
    assert "| Score | the document's attention over the query codes (`custom`), temperature 0.05 |" in card
    assert "| Query codes | 3, last, maps: shared |" in card
    assert "| Document vector | 16 dimensions, mean, length 1 |" in card
    assert "| Towers | one, shared |" in card
    assert "| Longest query | 128 tokens |" in card
    assert "| Turns are joined by | ` [SEP] ` |" in card
    card = saved_card(built("bi-attention"), tmp_path / "bi")
    assert "| Score | inner product (`dot`) |" in card
    assert "| Query vector | attention, average of 3 codes, maps: each, position bias |" in card
    assert "| Towers | two |" in card
    card = saved_card(built("arc-ii"), tmp_path / "arc")
    assert "| Longest query | 64 tokens |" in card
    card = saved_card(built("cross-warm"), tmp_path / "warm")
    assert "| Bias of the attention between them | -2 |" in card
    assert "| Score | first output times W |" in saved_card(built("cross"), tmp_path / "cross")


def test_a_separator_does_not_break_the_table(tmp_path, build):
    card = saved_card(build("poly-learnt", turn_separator="\n|\n"), tmp_path / "model")
    assert "| Turns are joined by | `\\n\\|\\n` |" in card


def test_the_backbones_prompts_are_kept_and_said(tmp_path, tiny_backbone):
    backbone = SentenceTransformer(tiny_backbone, device="cpu", prompts={"query": "query: ", "document": ""})
    backbone.save(str(tmp_path / "backbone"))
    card = saved_card(BiEncoder(tmp_path / "backbone", device="cpu"), tmp_path / "model")
    assert "| Put before a query | `query: ` |" in card
    assert "before a document" not in card
    again = BiEncoder(tmp_path / "model", device="cpu")
    plain = BiEncoder(tiny_backbone, device="cpu", normalize=True)
    assert np.allclose(again.encode_query(["tea"]), plain.encode_query(["query: tea"]), atol=1e-6)
    assert np.allclose(again.encode_document(["tea"]), plain.encode_document(["tea"]), atol=1e-6)


@pytest.mark.parametrize(("base", "named"), [("owner/encoder", True), ("encoder", True), ("/home/me/encoder", False)])
def test_the_backbone_is_named_when_it_is_one_of_a_hub(tmp_path, build, base, named):
    model = build("bi")
    model.model_card_data.base_model = base
    card = saved_card(model, tmp_path / "model")
    assert (f"base_model: {base}\n" in card) is named
    assert (f"[{base}](https://huggingface.co/{base})" in card) is named
    assert (base in card) is named


def test_a_card_that_came_with_the_model_stays_until_it_is_trained(tmp_path, built):
    saved_card(built("poly-learnt"), tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("Written by hand.")
    model = PolyEncoder(tmp_path / "model")
    assert saved_card(model, tmp_path / "again") == "Written by hand."
    model.training_record = {"Steps": 300, "Loss": "cross-entropy | in-batch"}
    card = saved_card(model, tmp_path / "trained")
    assert "## Training" in card
    assert "| Steps | 300 |\n| Loss | cross-entropy \\| in-batch |" in card


def test_the_backbones_own_card_is_not_taken_over(tmp_path, backbone):
    assert "all-MiniLM" in (Path(backbone) / "README.md").read_text(encoding="utf-8")
    assert '## Usage\n\n```bash\npip install "polyencoders[train]"' in saved_card(
        PolyEncoder(backbone), tmp_path / "model"
    )
