"""Graphs in 8 bits: dynamic quantisation of matrix products, with weights scaled per channel."""

from __future__ import annotations

import logging
from pathlib import Path


def quantise(file: Path, precision: str) -> None:
    """Quantise a graph in place where its precision is int8; leave it as it is otherwise."""
    if precision != "int8":
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = file.with_suffix(".float32.onnx")
    file.rename(whole)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preparation that changes nothing here
    try:
        quantize_dynamic(
            whole, file, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )
    finally:
        root.setLevel(level)
    whole.unlink()
