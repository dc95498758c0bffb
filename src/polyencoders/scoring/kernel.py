"""Which path a search takes on this machine, and the way to the native kernel."""

import functools
import logging
import os
from types import ModuleType

MOST_CODES = 512
"""Codes of a query that the native kernel takes. Queries with more are searched with numpy."""

CHOICE = "POLYENCODERS_KERNEL"


@functools.cache
def native() -> ModuleType | None:
    """Return the compiled kernel, or None where it was not built; that is said once."""
    try:
        import polyencoders.scoring._kernel as kernel
    except ImportError as error:
        logging.getLogger(__name__).warning(
            "The native search kernel is not installed (%s): searching with numpy, with the same results but several "
            "times slower. Installing polyencoders anew where there is a C++17 compiler (gcc or clang) builds it.",
            error,
        )
        return None
    return kernel


def search_path() -> str:
    """Return how documents in main memory are searched here.

    It is `avx512-vnni`, `avx2` or `portable`, the native kernel for this processor; or `numpy`, where it was not built.
    The environment variable `POLYENCODERS_KERNEL` chooses another one; one that the machine lacks is a `ValueError`.

    >>> search_path() in {"avx512-vnni", "avx2", "portable", "numpy"}
    True
    """
    wanted = os.environ.get(CHOICE)
    if wanted == "numpy":
        return wanted
    paths = _paths(native())
    if not wanted:
        return paths[0]
    if wanted not in paths:
        raise ValueError(f"{CHOICE}={wanted}: this machine has {', '.join(paths)}")
    return wanted


@functools.cache
def _paths(kernel: ModuleType | None) -> list[str]:
    """What this machine has, the fastest first."""
    return [*(kernel.variants() if kernel is not None else ()), "numpy"]
