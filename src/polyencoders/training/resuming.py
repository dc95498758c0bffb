"""What an interrupted run goes on from: the last checkpoint, if it is of the very run that is asked for; its start.

Knows what a run is told by, as JSON, and weights by name; nothing of data.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyencoders.errors import TrainingError
from polyencoders.files import whole_file
from polyencoders.training.trainer import last_checkpoint

CHECKPOINTS = "checkpoints"
"""The folder of a run's output directory that is there until the run has ended."""


def checkpoint_to_resume(folder: Path, run: dict[str, Any]) -> str | None:
    """The last whole checkpoint of a run that was interrupted; None where it begins, which is written down.

    Parameters
    ----------
    folder
        Of the checkpoints.
    run
        All that the run depends on, as JSON has it.

    Raises
    ------
    TrainingError
        When the checkpoints are another run's.
    """
    described = folder / "run.json"
    if not described.exists():
        with whole_file(described) as scratch:
            scratch.write_text(json.dumps(run), encoding="utf-8")
        return None
    earlier = json.loads(described.read_text(encoding="utf-8"))
    if changed := [key for key in {**run, **earlier} if earlier.get(key) != run.get(key)]:
        raise TrainingError(
            f"{folder} holds the checkpoints of an interrupted run with other {', '.join(changed)}: "
            "run it again as it was to finish it, choose another folder, or delete that one"
        )
    checkpoint = last_checkpoint(folder)
    return None if checkpoint is None else str(checkpoint)


def trained_weights(model: nn.Module, file: Path | None) -> dict[str, Tensor]:
    """A copy of the weights that are not frozen, as they are or as they were when the run began.

    Parameters
    ----------
    model
        Built again for a run that goes on, it may have other new weights than it had.
    file
        Where they were kept when the run began; written where it is missing. None: as they are.
    """
    start = {name: weights.detach().clone() for name, weights in model.named_parameters() if weights.requires_grad}
    if file is not None and file.exists():
        return {name: tensor.to(start[name].device) for name, tensor in load_file(file).items()}
    if file is not None:
        with whole_file(file) as scratch:
            save_file(start, scratch)
    return start


def digest(content: Any) -> str:
    """A short text as good as unique to some content; what JSON does not know goes in as its `str`."""
    return hashlib.blake2b(json.dumps(content, default=str).encode(), digest_size=16).hexdigest()
