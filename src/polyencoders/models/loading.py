"""Loads a saved PyTorch model of any architecture, by what its directory says it is."""

import json
import os
from pathlib import Path
from typing import Any

from sentence_transformers.util import load_file_path

from polyencoders.encoders.loading import checked_name
from polyencoders.errors import ModelError
from polyencoders.models.arc_ii import ArcII
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.cross_encoder import CrossEncoder
from polyencoders.models.directory import ARCHITECTURE_KEY, hub_arguments, read_config
from polyencoders.models.one_way_cross_encoder import OneWayCrossEncoder
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.warm_cross_encoder import WarmCrossEncoder

ARCHITECTURES = {
    model.__name__: model
    for model in (BiEncoder, PolyEncoder, CrossEncoder, WarmCrossEncoder, OneWayCrossEncoder, ArcII)
}


def load_model(
    path: str | os.PathLike[str], **arguments: Any
) -> BiEncoder | PolyEncoder | CrossEncoder | WarmCrossEncoder | ArcII:
    """Load a saved PyTorch model as `polyencoders.load` does, with the same arguments and errors."""
    name = checked_name(path)
    if Path(name).is_dir() and not (Path(name) / "modules.json").exists() and not (Path(name) / "config.json").exists():
        raise ModelError(f"{name} is a directory without a model: it has neither modules.json nor config.json")
    saved = read_config(name, hub_arguments(arguments)).get(ARCHITECTURE_KEY)
    if saved is None:
        plain = CrossEncoder if _is_reranker(name, hub_arguments(arguments)) else BiEncoder
        return plain(name, **arguments)
    architecture = ARCHITECTURES.get(saved.get("architecture"))
    if architecture is None:
        raise ModelError(
            f"{name} holds a {saved.get('architecture')!r}, which this version does not know; "
            f"it knows {', '.join(ARCHITECTURES)}"
        )
    return architecture(name, **arguments)


def _is_reranker(name: str, hub: dict[str, Any]) -> bool:
    """Tell whether a model that is not ours reads pairs: rerankers are classifiers of sequences."""
    path = load_file_path(name, "config.json", **hub)
    if path is None:
        return False
    architectures = json.loads(Path(path).read_text(encoding="utf-8")).get("architectures") or [""]
    return str(architectures[0]).endswith("ForSequenceClassification")
