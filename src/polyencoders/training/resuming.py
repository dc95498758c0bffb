"""Whether checkpoints in a folder are of the very run that is asked for, and the last one if they are.

Knows what a run is told by, as JSON; nothing of models or data.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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


def digest(content: Any) -> str:
    """A short text as good as unique to some content; what JSON does not know goes in as its `str`."""
    return hashlib.blake2b(json.dumps(content, default=str).encode(), digest_size=16).hexdigest()
