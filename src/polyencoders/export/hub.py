"""Puts a model on a hub with its exported graphs beside the weights: one name, with and without PyTorch."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polyencoders.export.exporting import export_model
from polyencoders.models import ArcII, CrossEncoder, DualEncoder, WarmCrossEncoder
from polyencoders.models.card import write_card

FOLDER = "onnx"
"""Where in a model's directory its exported graphs are; `polyencoders.load` looks there."""


def push_to_hub(model: DualEncoder | CrossEncoder | WarmCrossEncoder | ArcII, name: str, **arguments: Any) -> str:
    """Upload a model, its exported graphs and its card, in one commit.

    `polyencoders.load(name)` then takes the graphs and downloads nothing else; the architecture's class takes the
    weights.

    Parameters
    ----------
    model
        A model of any architecture.
    name
        `owner/model`.
    **arguments
        Those of sentence-transformers' `push_to_hub`: `token`, `private`, `exist_ok`, `revision`, `create_pr`, ...

    Returns
    -------
    str
        The address of the commit.

    Raises
    ------
    ModelError
        The model cannot be exported: then nothing is uploaded.
    """
    with TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        model.save(place, model_name=name, create_model_card=False)
        export_model(model, place / FOLDER)
        write_card(model, place, name)
        return str(model.push_to_hub(name, local_model_path=str(place), **arguments))
