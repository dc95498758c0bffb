"""The same work on many machines: encoding into an index and searching it, on Ray. Knows indexes and models.

`ShardedIndex` searches an index whose shares lie in many processes; `add` encodes documents on all of a cluster.
"""

from polyencoders.distributed.cluster import connect
from polyencoders.distributed.sharded import PartialAnswer, ShardedIndex

__all__ = ["PartialAnswer", "ShardedIndex", "connect"]
