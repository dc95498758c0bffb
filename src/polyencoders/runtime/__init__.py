"""Exported models on ONNX Runtime or OpenVINO: text in, vectors or scores out, without PyTorch."""

from polyencoders.runtime.encoder import ExportedEncoder
from polyencoders.runtime.loading import load_model
from polyencoders.runtime.pairs import ExportedPairScorer

__all__ = ["ExportedEncoder", "ExportedPairScorer", "load_model"]
