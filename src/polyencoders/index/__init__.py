"""Documents in, ranked hits out: an index on disk, and search over vectors that others keep. Knows models and scoring.

`Index` keeps documents with their vectors; `verify` checks one. `polyencoders.index.stores` searches vectors held
elsewhere. What searches vectors alone, in `searching.py` and below, is imported without any model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.index.adding import Added
    from polyencoders.index.answers import Answer, IndexHit
    from polyencoders.index.index import Index, IndexInfo, verify
    from polyencoders.index.maker import Maker
    from polyencoders.index.staging import Watch
    from polyencoders.index.storage import is_index

__all__ = ["Added", "Answer", "Index", "IndexHit", "IndexInfo", "Maker", "Watch", "is_index", "verify"]
_ELSEWHERE = {
    "Added": "adding",
    "Answer": "answers",
    "IndexHit": "answers",
    "Maker": "maker",
    "Watch": "staging",
    "is_index": "storage",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"polyencoders.index.{_ELSEWHERE.get(name, 'index')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
