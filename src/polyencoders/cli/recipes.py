"""Recipes: a training run in a short YAML file, checked before anything is loaded.

model:
  architecture: bi-attention    # the default; bi, poly-M, poly-first-M, ..., cross, cross-warm, cross-one-way, arc-ii
  backbone: sentence-transformers/all-MiniLM-L6-v2
  shared_tower: true            # and any other setting of the class
data:
  train: mine.jsonl             # or a table, chitchat, or FORMAT:PATH (docs/data.md)
  validation: held-out.jsonl    # default: the set's own, or a part of train; none: no validation
  columns: query=q,positive=a   # which columns are what; default: guessed by common names
  on_error: stop                # or skip: items that cannot be used are left out, and counted
training:
  steps: 1000                   # and any other of TrainingOptions
  freeze: backbone
output: models/mine
"""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from polyencoders.cli.architectures import DEFAULT_ARCHITECTURE, DEFAULT_BACKBONE, parse_architecture
from polyencoders.errors import DataError, PolyencodersError
from polyencoders.training.options import TrainingOptions


@dataclass(frozen=True)
class Recipe:
    """A checked recipe."""

    architecture: str
    backbone: str
    settings: dict[str, Any]  # Settings of the architecture's class
    train: str
    validation: str | None
    """None: a part of `train`; `none`: no validation. Both are data as `read_source` takes it."""
    options: TrainingOptions
    output: str
    columns: str | None = None  # As --columns
    on_error: str = "stop"


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe."""
    if path.suffix in (".jsonl", ".json", ".gz", ".csv", ".txt"):
        raise DataError(f"{path} is not a recipe (YAML); to train on pairs of your own: --data {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML: {error}") from error
    try:
        return parse_recipe(content)
    except PolyencodersError as error:
        raise type(error)(f"{path}: {error}") from None


def parse_recipe(content: Any) -> Recipe:
    """Check a recipe's content.

    >>> parse_recipe({"data": {"trian": "chitchat"}, "output": "models/mine"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    polyencoders.errors.DataError: data: unknown key 'trian'; did you mean 'train'? Known: train, validation, ...
    """
    from polyencoders import models

    content = _section("the recipe", content, ("model", "data", "training", "output"))
    model = _section("model", content.get("model") or {})
    data = _section("data", content.get("data"), ("train", "validation", "columns", "on_error"))
    training = _section("training", content.get("training") or {}, [option.name for option in fields(TrainingOptions)])
    architecture = _text("model: architecture", model.pop("architecture", DEFAULT_ARCHITECTURE))
    backbone = _text("model: backbone", model.pop("backbone", DEFAULT_BACKBONE))
    architecture_class = getattr(models, parse_architecture(architecture)[0])
    parameters = inspect.signature(architecture_class.__init__).parameters.values()
    settings = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    _section("model", model, ["architecture", "backbone", "prompts", *settings])
    if "prompts" in model:
        model["prompts"] = _section("model: prompts", model["prompts"], ("query", "document"))
    for rate in {"learning_rate", "code_learning_rate"} & set(training):
        given = training[rate]
        training[rate] = [_number(each) for each in given] if isinstance(given, list) else _number(given)
    return Recipe(
        architecture=architecture,
        backbone=backbone,
        settings=model,
        train=_text("data: train", data.get("train")),
        output=_text("output", content.get("output")),
        validation=None if data.get("validation") is None else _text("data: validation", data["validation"]),
        options=TrainingOptions(**training),
        columns=None if data.get("columns") is None else _text("data: columns", data["columns"]),
        on_error=_text("data: on_error", data.get("on_error", "stop")),
    )


def _number(value: Any) -> Any:
    """Turn a text into the number that it spells: YAML reads 5e-5, without a point, as text."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _section(name: str, value: Any, known: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a section's keys and values, if all its keys are known."""
    if not isinstance(value, Mapping):
        raise DataError(f"{name}: expected keys and values, given {'nothing' if value is None else repr(value)}")
    for key in value:
        if known is not None and key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(f"{name}: unknown key {key!r}{hint} Known: {', '.join(known)}")
    return dict(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{name}: expected text, given {'nothing' if value is None else repr(value)}")
    return value
