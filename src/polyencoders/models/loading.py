"""A saved model of whatever architecture, by what its directory says it is.

Knows the architectures; nothing of what they do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sentence_transformers.util import load_file_path

from polyencoders.errors import ModelError
from polyencoders.models.arc_ii import ArcII
from polyencoders.models.bi_encoder import BiEncoder
from polyencoders.models.cross_encoder import CrossEncoder
from polyencoders.models.directory import ARCHITECTURE_KEY, hub_arguments, read_config
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.warm_cross_encoder import WarmCrossEncoder

ARCHITECTURES = {model.__name__: model for model in (BiEncoder, PolyEncoder, CrossEncoder, WarmCrossEncoder, ArcII)}


def load_model(
    path: str | os.PathLike[str], **arguments: Any
) -> BiEncoder | PolyEncoder | CrossEncoder | WarmCrossEncoder | ArcII:
    """Load a saved model.

    A plain backbone is a `BiEncoder` as it comes, a plain reranker a `CrossEncoder`.

    Parameters
    ----------
    path
        A model directory, or a model's name on the hub.
    arguments
        As for the architecture's class: `device`, `token`, `revision`, ...

    Raises
    ------
    ModelError
        When there is no such directory, it holds no model, or its architecture is not known.
    """
    name = os.fspath(path)
    # "owner/model" may be on the hub, unless "owner" is a directory here: then, as all else, it is a mistyped path.
    on_a_hub = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.is_dir()
    if not Path(name).exists() and not on_a_hub:
        raise ModelError(f"{name}: no such model directory")
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
    """Whether a model that is not ours reads pairs: a classifier of sequences, as rerankers are."""
    path = load_file_path(name, "config.json", **hub)
    if path is None:
        return False
    architectures = json.loads(Path(path).read_text(encoding="utf-8")).get("architectures") or [""]
    return str(architectures[0]).endswith("ForSequenceClassification")
