"""Reads what a model directory or hub repository holds: one of ours, or a backbone to build on.

A backbone is any Hugging Face encoder, or a sentence-transformers model, whose pooling and normalisation are then the
defaults of the document side, so that document vectors are the backbone's own. Knows files and sentence-transformers'
modules; nothing of queries or scores.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from sentence_transformers.util import load_file_path

from polyencoders.errors import ModelError
from polyencoders.models.reductions import reduction_name

logger = logging.getLogger(__name__)

ARCHITECTURE_KEY = "polyencoders"
"""The key of `config_sentence_transformers.json` under which a model says what it is."""


@dataclass(frozen=True)
class Backbone:
    """A transformer, and how sentence-transformers reduced its outputs, if it did."""

    transformer: Transformer
    reduction: str
    normalize: bool


def read_config(model_name_or_path: str, hub: Mapping[str, Any]) -> dict[str, Any]:
    """The model-level configuration of a sentence-transformers model or one of ours; empty for a plain encoder.

    Raises
    ------
    ModelError
        It is not JSON: damaged or cut short.
    """
    path = load_file_path(model_name_or_path, "config_sentence_transformers.json", **hub)
    if path is None:
        return {}
    try:
        config: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged or cut short ({error}): copy it again") from error
    return config


def check_architecture(saved: Mapping[str, Any], expected: str, model_name_or_path: str) -> None:
    """Refuse a model directory of another architecture, naming both.

    Raises
    ------
    ModelError
        It is one.
    """
    if saved.get("architecture") != expected:
        raise ModelError(
            f"{model_name_or_path} holds a {saved.get('architecture')}, not a {expected}: "
            f"load it with {saved.get('architecture')}(...), or give a backbone to build a {expected} on"
        )


def as_backbone(modules: list[Any], config: Mapping[str, Any], model_name_or_path: str) -> Backbone:
    """The backbone in a sentence-transformers model's modules.

    Its vectors count as normalised where it normalises them or compares them by cosine, as it does unless it says
    otherwise; the outputs of a plain encoder (an empty config) are left as they are, as in the paper.

    Raises
    ------
    ModelError
        They do not begin with a Transformer.
    """
    transformer, *rest = modules
    if not isinstance(transformer, Transformer):
        raise ModelError(
            f"{model_name_or_path} begins with a {type(transformer).__name__} module; "
            "a backbone is a Hugging Face encoder or a sentence-transformers model that begins with a Transformer"
        )
    # Padding is what masks are for; flattened batches would need a second path through every reduction.
    transformer.unpad_inputs = False
    pooling = next((module for module in rest if isinstance(module, Pooling)), None)
    reduction = reduction_name(pooling) if pooling is not None else None
    left_out = [module for module in rest if not isinstance(module, Normalize) and module is not pooling]
    if left_out or reduction is None:
        given = ", ".join(type(module).__name__ for module in rest) or "nothing"
        logger.warning(
            "%s has %s after its transformer; document vectors are made by %s instead, so they differ from its own",
            model_name_or_path,
            given,
            reduction or "the mean of all outputs",
        )
    return Backbone(
        transformer=transformer,
        reduction=reduction or "mean",
        normalize=any(isinstance(module, Normalize) for module in rest)
        or (bool(config) and config.get("similarity_fn_name") in (None, "cosine")),
    )
