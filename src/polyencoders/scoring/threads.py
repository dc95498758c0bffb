"""How many threads a search uses."""

import os
import sys

_chosen: int | None = None


def set_threads(number: int | None) -> None:
    """Choose how many threads searches use in this process; None goes back to the default."""
    global _chosen
    _chosen = None if number is None else max(1, number)


def threads() -> int:
    """Return how many threads a search uses.

    What `set_threads` chose; else PyTorch's number where PyTorch is loaded, so that `torch.set_num_threads` holds here
    as well; else `OMP_NUM_THREADS`; else one for each processor that this process may run on.

    >>> set_threads(2)
    >>> threads()
    2
    >>> set_threads(None)
    """
    if _chosen is not None:
        return _chosen
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
