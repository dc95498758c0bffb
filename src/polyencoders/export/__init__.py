"""PyTorch models to directories that need no PyTorch: graphs, a tokeniser, and what they say of themselves."""

from polyencoders.export.exporting import Exported, export_model
from polyencoders.export.hub import push_to_hub

__all__ = ["Exported", "export_model", "push_to_hub"]
