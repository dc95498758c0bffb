"""Resumes an interrupted run: its last checkpoint, if it is the same run, and what it noted when it began."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from transformers import TrainerState

from polyencoders.errors import TrainingError
from polyencoders.files import whole_file

_BEGAN_FROM = "_training_began_from"
CHECKPOINTS = "checkpoints"  # A folder in a run's output directory, which is there until the run has ended


def checkpoint_to_resume(folder: Path, run: dict[str, Any]) -> str | None:
    """Returns the last whole checkpoint of an interrupted run, or None for a new run, which is noted in the folder.

    `run` is all that the run depends on. Raises a `TrainingError` where the folder holds another run's
    checkpoints.
    """
    run = json.loads(json.dumps(run))
    is_new = not (folder / "run.json").exists()
    earlier = kept_json(folder / "run.json", lambda: run)
    if changed := [key for key in {**run, **earlier} if earlier.get(key) != run.get(key)]:
        raise TrainingError(
            f"{folder} holds the checkpoints of an interrupted run with other {', '.join(changed)}: "
            "run it again as it was to finish it, choose another folder, or delete that one"
        )
    checkpoint = None if is_new else last_checkpoint(folder)
    return None if checkpoint is None else str(checkpoint)


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the newest whole checkpoint; the trainer writes its state last, so one without a state was cut short."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _state(path) is not None]
    return max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def finished_state(checkpoint: Path) -> TrainerState | None:
    """Returns the state of a run that had ended by this checkpoint, or None where it has steps to go."""
    state = _state(checkpoint / "trainer_state.json")
    if state is None:
        return None
    stopped = state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]
    return TrainerState(**state) if stopped or state["global_step"] >= state["max_steps"] else None


def _state(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def kept_json(file: Path | None, make: Callable[[], Any]) -> Any:
    """Returns what a file keeps, as JSON; where it is missing, what `make` returns is written there."""
    if file is None:
        return make()
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    content = make()
    with whole_file(file) as scratch:
        scratch.write_text(json.dumps(content), encoding="utf-8")
    return content


def trained_weights(model: nn.Module, file: Path | None = None) -> dict[str, Tensor]:
    """Returns a copy of the weights that are not frozen: as they are, or as the file has them.

    A missing file is written. A model that was built again for a resumed run may have other new weights than it had
    when the run began; the file has those.
    """
    start = {name: weights.detach().clone() for name, weights in model.named_parameters() if weights.requires_grad}
    if file is not None and file.exists():
        return {name: tensor.to(start[name].device) for name, tensor in load_file(file).items()}
    if file is not None:
        with whole_file(file) as scratch:
            save_file(start, scratch)
    return start


@torch.no_grad()
def restore_weights(model: nn.Module, kept: dict[str, Tensor]) -> None:
    """Gives a model the weights that `trained_weights` returned."""
    for name, weights in model.named_parameters():
        if name in kept:
            weights.copy_(kept[name])


def began_from(model: nn.Module) -> str:
    """Returns a hash of the backbones' weights as they were when the model's training began.

    Two backbones of one shape are two runs. A model that an interruption left half trained is still the one it was.
    Poolers and heads do not count: a backbone may come without, and then they are new each time.
    """
    if (begun := getattr(model, _BEGAN_FROM, None)) is not None:
        return str(begun)
    made = hashlib.blake2b(digest_size=16)
    for module in model.modules():
        if isinstance(module, Transformer):
            for name, weights in module.model.base_model.named_parameters():
                if "pooler" not in name:
                    made.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    setattr(model, _BEGAN_FROM, made.hexdigest())
    return made.hexdigest()


def has_ended(model: nn.Module) -> None:
    """Lets the next training of a model begin from what it is now."""
    setattr(model, _BEGAN_FROM, None)


def digest(content: Any) -> str:
    """Returns a hash of some content, as JSON has it; other objects count as their `str`."""
    return hashlib.blake2b(json.dumps(content, default=str).encode(), digest_size=16).hexdigest()
