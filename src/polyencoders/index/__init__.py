"""Documents in, ranked hits out: an index on disk, and search over vectors that others keep.

`Index` keeps documents with their vectors; `verify` checks one. `polyencoders.index.stores` searches vectors held
elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.index.adding import Added
    from polyencoders.index.index import Index
    from polyencoders.index.jobs import Watch
    from polyencoders.index.provenance import Maker
    from polyencoders.index.reader import IndexInfo
    from polyencoders.index.searching import Answer, IndexHit
    from polyencoders.index.storage import is_index
    from polyencoders.index.verifying import verify

_HOMES = {
    "Added": "adding",
    "Answer": "searching",
    "Index": "index",
    "IndexHit": "searching",
    "IndexInfo": "reader",
    "Maker": "provenance",
    "Watch": "jobs",
    "is_index": "storage",
    "verify": "verifying",
}
__all__ = ["Added", "Answer", "Index", "IndexHit", "IndexInfo", "Maker", "Watch", "is_index", "verify"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"polyencoders.index.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
