"""Poly-encoders that people can use: accuracy near a cross-encoder, at the speed and storage of a bi-encoder.

`import polyencoders` is quick: the models, and PyTorch with them, are imported when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyencoders.encoders import load
    from polyencoders.models import ArcII, BiEncoder, CrossEncoder, OneWayCrossEncoder, PolyEncoder, WarmCrossEncoder

__version__ = "0.1.0"

ENGINES = (
    ("export.json", "polyencoders.runtime.loading:load_model"),
    ("onnx/export.json", "polyencoders.runtime.loading:load_model"),
    ("", "polyencoders.models.loading:load_model"),
)
"""Who computes a model: a file in its directory that marks it, and what loads the folder of that file.
`polyencoders.load` takes the first that fits. This is the one place that knows every engine."""

__all__ = [
    "ArcII",
    "BiEncoder",
    "CrossEncoder",
    "OneWayCrossEncoder",
    "PolyEncoder",
    "WarmCrossEncoder",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("polyencoders.encoders.loading").load
    if name in __all__:
        return getattr(import_module("polyencoders.models"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
