"""Loads an exported directory by what its manifest says."""

import os
from pathlib import Path

from polyencoders.errors import ModelError
from polyencoders.runtime.encoder import ExportedEncoder
from polyencoders.runtime.manifest import Manifest
from polyencoders.runtime.one_way import ExportedOneWayScorer
from polyencoders.runtime.pairs import ExportedPairScorer


def load_model(path: str | os.PathLike[str], **arguments: object) -> ExportedEncoder | ExportedPairScorer:
    """Load a model that `polyencoders export` wrote.

    Parameters
    ----------
    path
        The directory.
    **arguments
        None: an exported model has no settings.

    Raises
    ------
    ModelError
        A file is damaged or was changed, or an argument is given.
    MissingExtraError
        The engine that it was exported for is not installed.
    """
    given = sorted(name for name, value in arguments.items() if value is not None)
    if given:
        raise ModelError(f"{os.fspath(path)} is an exported model, which takes no {', '.join(given)}")
    folder = Path(path)
    manifest = Manifest.read(folder)
    if "pair" not in manifest.graphs:
        return ExportedEncoder(folder, manifest)
    one_way = manifest.architecture == "OneWayCrossEncoder"
    return (ExportedOneWayScorer if one_way else ExportedPairScorer)(folder, manifest)
