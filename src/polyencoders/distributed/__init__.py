"""The same work on many machines, on Ray. Knows serving, indexes and models.

`ShardedIndex` searches an index whose shares lie in many processes; `add` fills one with the workers of a cluster;
`connect` joins a cluster; `estimate` says what one would cost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.distributed.cluster import connect
    from polyencoders.distributed.costs import estimate
    from polyencoders.distributed.encoding import add
    from polyencoders.distributed.sharded import PartialAnswer, ShardedIndex

__all__ = ["PartialAnswer", "ShardedIndex", "add", "connect", "estimate"]
_ELSEWHERE = {"add": "encoding", "connect": "cluster", "estimate": "costs"}


def __getattr__(name: str) -> Any:  # a shard's process, which imports this first, needs neither models nor a server
    if name in __all__:
        return getattr(import_module(f"polyencoders.distributed.{_ELSEWHERE.get(name, 'sharded')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
