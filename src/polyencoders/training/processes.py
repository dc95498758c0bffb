"""Several processes that train one model together, started by `torchrun` or `accelerate launch`.

In a single process every function here returns what it is given.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]

from polyencoders.errors import PolyencodersError, TrainingError

T = TypeVar("T")


def processes(device: torch.device | None = None) -> Any:
    """Returns the `PartialState`: `num_processes`, `process_index`, `is_main_process`, `wait_for_everyone`.

    The model's device, where it is known, decides how processes talk to each other.
    """
    return PartialState(cpu=True) if device is not None and device.type == "cpu" else PartialState()


def by_the_first(make: Callable[[], T]) -> T:
    """Returns in all processes what the first one makes; an error of this package in the first is raised in all."""
    state = processes()
    if state.num_processes == 1:
        return make()
    told: list[Any] = [None, None]
    if state.is_main_process:
        try:
            told[0] = make()
        except PolyencodersError as error:
            told[1] = error
    found, wrong = broadcast_object_list(told)
    if wrong is not None:
        raise wrong
    return found


def part_of_batch(batch_size: int, rows: int, device: torch.device) -> int:
    """Returns the rows of a batch that each process takes; a `TrainingError` where they cannot be divided equally."""
    number = int(processes(device).num_processes)
    if batch_size % number:
        fewer = batch_size - batch_size % number
        near = " or ".join(str(one) for one in (fewer, fewer + number) if one)
        raise TrainingError(f"batch_size={batch_size} cannot be shared equally by {number} processes: choose {near}")
    if rows < number:
        raise TrainingError(f"{number} processes need at least as many pairs of a query and a document, got {rows}")
    return min(batch_size, rows) // number
