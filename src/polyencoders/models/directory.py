"""Finds and reads the files of a model, in a directory or on a hub, through sentence-transformers' public functions.

The modules are built here, from `modules.json`, with our own module classes by name: no remote code is run for them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.base.modules import Router
from sentence_transformers.util import import_module_class, load_file_path
from sentence_transformers.util.misc import ORIGINAL_TRANSFORMER_MODELS
from torch import nn

from polyencoders.errors import ModelError

ARCHITECTURE_KEY = "polyencoders"  # The key of `config_sentence_transformers.json` under which a model says what it is

_LOADING = (
    "token", "cache_folder", "revision", "trust_remote_code", "local_files_only", "model_kwargs", "processor_kwargs",
    "config_kwargs", "backend",
)  # fmt: skip


def hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Select the arguments of a loader that say where on a hub, or in its cache, files are found.

    >>> hub_arguments({"revision": "main", "cache_folder": "models", "device": "cpu"})
    {'token': None, 'cache_folder': 'models', 'revision': 'main', 'local_files_only': False}
    """
    return {
        "token": arguments.get("token"),
        "cache_folder": arguments.get("cache_folder") or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
        "revision": arguments.get("revision"),
        "local_files_only": bool(arguments.get("local_files_only")),
    }


def transformers_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same under the names that `from_pretrained` of transformers has for them."""
    return {"cache_dir" if name == "cache_folder" else name: value for name, value in hub_arguments(arguments).items()}


def loading_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Select the arguments that say how a model's modules are loaded, as classes of sentence-transformers take them."""
    found = {name: arguments[name] for name in _LOADING if arguments.get(name) is not None}
    more = {"processor_kwargs": {"model_max_length": arguments.get("max_length")},
            "config_kwargs": {"num_labels": arguments.get("num_labels")}}  # fmt: skip
    for name, values in more.items():
        if given := {key: value for key, value in values.items() if value is not None}:
            found[name] = {**(found.get(name) or {}), **given}
    return found


def name_of(model_name_or_path: str | os.PathLike[str], organization: str | None) -> str:
    """Return a model's path or full name; a name without an owner on a hub is the organisation's."""
    name = os.fspath(model_name_or_path)
    bare = "/" not in name and not Path(name).exists() and name.lower() not in ORIGINAL_TRANSFORMER_MODELS
    return f"{organization}/{name}" if bare and organization else name


def read_config(model_name_or_path: str, hub: Mapping[str, Any]) -> dict[str, Any]:
    """Read a model's `config_sentence_transformers.json`; empty for a plain encoder, which has none."""
    path = load_file_path(model_name_or_path, "config_sentence_transformers.json", **hub)
    return {} if path is None else dict(_read(path))


def load_modules(directory: str, classes: Sequence[type[nn.Module]], arguments: Mapping[str, Any]) -> list[nn.Module]:
    """Load the modules of a model that was saved in a directory.

    `classes` are our own module classes. They are found by their names, so that a class may move between files.
    """
    path = Path(directory) / "modules.json"
    if not path.exists():
        raise ModelError(f"{directory} is incomplete: it has no modules.json; copy it again")
    ours = {module_class.__name__: module_class for module_class in classes}
    return [_load(directory, part["path"], part["type"], ours, arguments) for part in _read(path)]


def _load(
    directory: str, folder: str, kind: str, ours: Mapping[str, type[Any]], arguments: Mapping[str, Any]
) -> nn.Module:
    package, name = kind.split(".")[0], kind.split(".")[-1]
    if package == "sentence_transformers" and name == Router.__name__:
        config = Router.load_config(directory, subfolder=folder) or Router.load_config(
            directory, subfolder=folder, config_filename="config.json"
        )
        parts = {
            part: _load(directory, f"{folder}/{part}".lstrip("/"), kind, ours, arguments)
            for part, kind in config["types"].items()
        }
        routes: dict[str, Any] = {side: [parts[part] for part in names] for side, names in config["structure"].items()}
        return Router(routes, **config["parameters"])
    if package == "polyencoders" and name in ours:
        module_class = ours[name]
    else:
        trust = bool(arguments.get("trust_remote_code"))
        module_class = import_module_class(kind, model_name_or_path=directory, trust_remote_code=trust)
    return module_class.load(directory, subfolder=folder, **loading_arguments(arguments))


def _read(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is damaged or cut short ({error}): copy it again") from error
