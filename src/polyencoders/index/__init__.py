"""Documents in, ranked hits out: an index on disk, and search over vectors that others keep. Knows models and scoring.

`Index` keeps documents with their vectors; `verify` checks one. `polyencoders.index.stores` searches vectors held
elsewhere.
"""

from polyencoders.index.adding import Added
from polyencoders.index.index import Answer, Index, IndexHit, IndexInfo, verify
from polyencoders.index.maker import Maker
from polyencoders.index.staging import Watch

__all__ = ["Added", "Answer", "Index", "IndexHit", "IndexInfo", "Maker", "Watch", "verify"]
