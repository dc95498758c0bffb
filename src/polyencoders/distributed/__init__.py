"""The same work on many machines, on Ray. Knows serving, indexes and models.

`ShardedIndex` searches an index whose shares lie in many processes; `connect` joins a cluster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.distributed.cluster import connect
    from polyencoders.distributed.sharded import PartialAnswer, ShardedIndex

__all__ = ["PartialAnswer", "ShardedIndex", "connect"]


def __getattr__(name: str) -> Any:  # a shard's process, which imports this first, needs neither models nor a server
    if name in __all__:
        return getattr(import_module(f"polyencoders.distributed.{'cluster' if name == 'connect' else 'sharded'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
