"""PyTorch models to directories that need no PyTorch: graphs, a tokeniser, and what they say of themselves."""

from polyencoders.export.exporting import export_model

__all__ = ["export_model"]
