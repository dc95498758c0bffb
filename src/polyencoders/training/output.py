"""Where a run saves its model: nothing of somebody's is replaced without being told."""

from pathlib import Path

from polyencoders.errors import TrainingError
from polyencoders.training.resume import CHECKPOINTS


def check_output(output: Path, overwrite: bool, what: str = "model", marker: str = "modules.json") -> None:
    """Refuse a directory where saving would replace something. A file of ours, the marker, tells what is ours."""
    check_no_model(output, overwrite, what, marker)
    if output.is_file():
        raise TrainingError(f"{output} is a file; the {what} is saved to a directory: choose another output")
    others = {entry.name for entry in output.iterdir()} - {CHECKPOINTS} if output.is_dir() else set()
    if others and not (output / marker).exists():
        raise TrainingError(f"{output} is a directory with other things in it: choose a new one for the {what}")


def check_no_model(output: Path, overwrite: bool, what: str = "model", marker: str = "modules.json") -> None:
    """Refuse a directory that holds a model, unless it is to be overwritten or a run goes on there."""
    if (output / marker).exists() and not (output / CHECKPOINTS).exists() and not overwrite:
        raise TrainingError(f"{output} holds a {what} already: choose another output, or say overwrite")
