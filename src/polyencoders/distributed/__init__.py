"""The same work on many machines, on a Ray cluster.

`ShardedIndex` searches an index whose slices lie in many processes. `add` fills an index with the workers of a cluster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.distributed.cluster import connect
    from polyencoders.distributed.encoding import add
    from polyencoders.distributed.sharded_index import PartialAnswer, ShardedIndex

__all__ = ["PartialAnswer", "ShardedIndex", "add", "connect"]
_MODULES = {"add": "encoding", "connect": "cluster"}


def __getattr__(name: str) -> Any:  # lazily: a shard's process imports this first, and needs no model and no server
    if name in __all__:
        return getattr(import_module(f"polyencoders.distributed.{_MODULES.get(name, 'sharded_index')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
