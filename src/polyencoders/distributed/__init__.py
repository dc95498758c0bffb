"""The same work on many machines, on Ray. Knows indexes and models.

`ShardedIndex` searches an index whose shares lie in many processes.
"""

from polyencoders.distributed.cluster import connect
from polyencoders.distributed.sharded import PartialAnswer, ShardedIndex

__all__ = ["PartialAnswer", "ShardedIndex", "connect"]
