"""Poly-encoders that people can use: accuracy near a cross-encoder, at the speed and storage of a bi-encoder.

`import polyencoders` is quick: the models, and PyTorch with them, are imported when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.models import ArcII, BiEncoder, CrossEncoder, PolyEncoder, WarmCrossEncoder

__version__ = "0.1.0"
__all__ = [
    "ArcII",
    "BiEncoder",
    "CrossEncoder",
    "PolyEncoder",
    "WarmCrossEncoder",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("polyencoders.models"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
