"""Several processes that train one model together, as `torchrun` and `accelerate launch` start them.

Knows how many there are and how they tell each other something; nothing of models or data. In a single process all of
it does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]

from polyencoders.errors import PolyencodersError, TrainingError

T = TypeVar("T")


def processes(device: torch.device | None = None) -> Any:
    """Their `PartialState`: `num_processes`, `process_index`, `is_main_process`, `wait_for_everyone`.

    Parameters
    ----------
    device
        Of the model, where it is known: what it says decides how processes talk to each other.
    """
    return PartialState(cpu=True) if device is not None and device.type == "cpu" else PartialState()


def by_the_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; an error of ours there is an error everywhere.

    Examples
    --------
    >>> by_the_first(lambda: 1 + 1)
    2
    """
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


def of_all(mine: Sequence[T]) -> list[T]:
    """What each process has, the first's first, in all of them.

    Examples
    --------
    >>> of_all(["a", "b"])
    ['a', 'b']
    """
    return list(gather_object(list(mine))) if processes().num_processes > 1 else list(mine)


def share_of(batch_size: int, rows: int, device: torch.device) -> int:
    """How many rows of a batch each process takes, where there are so many rows in all.

    Raises
    ------
    TrainingError
        A batch cannot be shared equally.

    Examples
    --------
    >>> share_of(32, 20, torch.device("cpu"))
    20
    """
    number = int(processes(device).num_processes)
    if batch_size % number:
        fewer = batch_size - batch_size % number
        near = " or ".join(str(one) for one in (fewer, fewer + number) if one)
        raise TrainingError(f"batch_size={batch_size} cannot be shared equally by {number} processes: choose {near}")
    if rows < number:
        raise TrainingError(f"{number} processes need at least as many pairs of a query and a document, got {rows}")
    return min(batch_size, rows) // number
