"""`polyencoders distill`: by options and by a recipe; and one clear line for what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from polyencoders import CrossEncoder
from polyencoders.cli.recipes import read_recipe
from polyencoders.training import Distillation

Run = Callable[..., tuple[int, str, str]]

RECIPE = """
model: {{architecture: bi, backbone: {backbone}}}
data: {{train: pairs.jsonl}}
training:
  steps: 2
  batch_size: 4
  distillation: {{{teacher}margin_mse: 1, hard_negatives: null, random_negatives: 3}}
output: again
"""


def test_distill(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    pairs = [{"query": f"what is {i} and {i}?", "positive": f"it is {2 * i}"} for i in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    CrossEncoder(tiny_backbone, device="cpu").save_pretrained("cross")
    distill = ["distill", "--data", "pairs.jsonl", "--backbone", tiny_backbone, "--steps", 2, "--batch-size", 4]
    code, out, err = run(*distill, "--teacher", "cross", "--architecture", "poly-4", "--freeze", "backbone")
    assert code == 0, err
    assert "taught by cross" in out
    assert "On 6 validation queries the teacher's MRR is" in out
    assert "entropy of the attention" in out
    assert "Distilled from" in (tmp_path / "models" / "distilled" / "README.md").read_text()

    (tmp_path / "recipe.yaml").write_text(RECIPE.format(backbone=tiny_backbone, teacher="teacher: cross, "))
    code, out, err = run("distill", "recipe.yaml")
    assert code == 0, err
    assert (tmp_path / "again" / "modules.json").exists()

    def refused(message: str, *arguments: object) -> None:
        code, _, err = run(*arguments)
        assert code != 0
        assert message in err.replace("\n", " ")

    refused("give --teacher", *distill)
    refused("nowhere: no such model directory", *distill, "--teacher", "nowhere", "--output", "other")
    refused("a recipe says these itself", "distill", "recipe.yaml", "--teacher", "cross")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(backbone=tiny_backbone, teacher=""))
    refused("no teacher is given", "distill", "recipe.yaml", "--overwrite")
    plain = f"model: {{backbone: {tiny_backbone}}}\ndata: {{train: pairs.jsonl}}\noutput: plain\n"
    (tmp_path / "recipe.yaml").write_text(plain)
    refused("has no `distillation`", "distill", "recipe.yaml")


def test_the_recipe_shows_the_defaults() -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "distill.yaml")
    assert recipe.options.distillation == Distillation(teacher="models/cross")
