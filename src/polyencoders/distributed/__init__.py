"""The same work on many machines, on Ray. Knows indexes and models.

`add` fills an index with the workers of a cluster.
"""

from polyencoders.distributed.cluster import connect
from polyencoders.distributed.encoding import add

__all__ = ["add", "connect"]
