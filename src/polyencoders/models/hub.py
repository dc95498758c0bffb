"""Where files of a model come from: the arguments of a loader that name it. Knows nothing of what is in the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hub_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of a loader's arguments, those that say where on a hub, or in its cache, files are found.

    Examples
    --------
    >>> hub_arguments({"revision": "main", "device": "cpu"})
    {'token': None, 'cache_folder': None, 'revision': 'main', 'local_files_only': False}
    """
    found = {name: arguments.get(name) for name in ("token", "cache_folder", "revision")}
    return {**found, "local_files_only": bool(arguments.get("local_files_only"))}


def transformers_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same, by the names that `from_pretrained` of transformers has for them.

    Examples
    --------
    >>> transformers_arguments({"revision": "main", "device": "cpu"})
    {'token': None, 'cache_dir': None, 'revision': 'main', 'local_files_only': False}
    """
    return {"cache_dir" if name == "cache_folder" else name: value for name, value in hub_arguments(arguments).items()}
