"""Recipes: what is accepted, and that a mistake is named before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyencoders.cli.recipes import parse_recipe, read_recipe
from polyencoders.errors import PolyencodersError

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_recipes_of_the_repository_are_valid(path: Path) -> None:
    assert read_recipe(path).train == "chitchat"


def test_a_recipe_is_read_in_full() -> None:
    recipe = parse_recipe(
        {
            "model": {"architecture": "poly-16", "backbone": "a/b", "shared_tower": False},
            "data": {"train": "t.jsonl", "validation": "v.jsonl"},
            "training": {"steps": 7, "freeze": ["documents"], "learning_rate": 3e-5},
            "output": "out",
        }
    )
    assert (recipe.architecture, recipe.backbone, recipe.settings) == ("poly-16", "a/b", {"shared_tower": False})
    assert (recipe.options.steps, recipe.options.frozen, recipe.options.learning_rate) == (7, ["documents"], 3e-5)
    assert (recipe.train, recipe.validation, recipe.output) == ("t.jsonl", "v.jsonl", "out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trianing": {}}, "the recipe: unknown key 'trianing'; did you mean 'training'?"),
        ({"training": {"step": 3}}, "training: unknown key 'step'; did you mean 'steps'?"),
        ({"model": {"architecture": "poly", "codez": "first"}}, "model: unknown key 'codez'; did you mean 'codes'?"),
        ({"model": {"architecture": "bi", "temperature": 2}}, "model: unknown key 'temperature'"),
        ({"model": {"architecture": "polly-16"}}, "no architecture 'polly-16'; did you mean poly-16?"),
        ({"data": {}}, "data: train: expected text, given nothing"),
        ({"data": "chitchat"}, "data: expected keys and values, given 'chitchat'"),
        ({"training": {"steps": 0}}, "steps must be a whole number of at least 1, got 0"),
        ({"training": {"steps": "many"}}, "steps must be a whole number of at least 1, got 'many'"),
        ({"training": {"learning_rate": -1}}, "learning_rate must be a number above 0, or several, got -1"),
        ({"output": 7}, "output: expected text, given 7"),
    ],
)
def test_a_mistake_is_named(change: dict, said: str) -> None:
    recipe = {"data": {"train": "chitchat"}, "output": "out", **change}
    with pytest.raises(PolyencodersError) as caught:
        parse_recipe(recipe)
    assert said in str(caught.value)


def test_a_file_of_pairs_in_place_of_a_recipe_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PolyencodersError, match="to train on pairs of your own: --data"):
        read_recipe(tmp_path / "mine.jsonl")


def test_a_rate_that_yaml_takes_for_text_is_a_number() -> None:
    recipe = {"data": {"train": "chitchat"}, "output": "out", "training": {"learning_rate": "5e-5"}}
    assert parse_recipe(recipe).options.learning_rate == 5e-5


@pytest.mark.parametrize(
    ("content", "said"),
    [("model: [", "not YAML"), ("", "expected keys and values, given nothing"), ("- a\n", "expected keys and values")],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(PolyencodersError) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    with pytest.raises(PolyencodersError, match="no such recipe"):
        read_recipe(tmp_path / "absent.yaml")


def test_several_learning_rates():
    content = {"data": {"train": "chitchat"}, "output": "mine", "training": {"learning_rate": ["1e-4", 3e-4]}}
    assert parse_recipe(content).options.learning_rate == (1e-4, 3e-4)
