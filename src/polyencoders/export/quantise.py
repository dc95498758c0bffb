"""Graphs in 8 bits: weights in blocks with a scale each, multiplied in 8-bit integers; embeddings with a scale a row.

Each row of activations is rounded in blocks of its own while the graph runs. So a few large numbers do not blur all the
others, as they do with one scale for a whole batch, and what a text becomes does not depend on the texts beside it.
`benchmarks/results/int8.md` compares this with the usual dynamic quantisation.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Weights that share a scale. Smaller blocks gain little accuracy and cost time (`benchmarks/results/int8.md`)."""


def quantise(file: Path, precision: str, block: int = BLOCK, embeddings: bool = True) -> None:
    """Quantise a graph in place where its precision is int8; leave it as it is otherwise.

    Parameters
    ----------
    file
        An ONNX graph.
    precision
        Only `int8` changes anything.
    block
        Weights that share a scale: 16, 32, 64 or 128.
    embeddings
        Whether the rows of embeddings are quantised as well.
    """
    if precision != "int8":
        return
    import onnx

    model = onnx.load(str(file))
    graph = model.graph
    weights = {one.name: one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT}
    nodes = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and len(weights.get(node.input[1], _NONE).dims) == 2:
            nodes += _product(onnx, graph, node, weights[node.input[1]], block)
        elif (
            node.op_type == "Gather"
            and embeddings
            and len(weights.get(node.input[0], _NONE).dims) == 2
            and not any(one.name == "axis" and one.i for one in node.attribute)
        ):
            nodes += _rows(onnx, graph, node, weights[node.input[0]])
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {one.name for one in graph.output}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(file))


class _NONE:
    """Stands for an input that is no weight."""

    dims = ()


def _product(onnx: Any, graph: Any, node: Any, weight: Any, block: int) -> list[Any]:
    """`A @ W`, or `A @ W + bias`, with W `(k, n)` in blocks along k."""
    matrix: NDArray[np.float32] = onnx.numpy_helper.to_array(weight)
    bias = ""
    if node.op_type == "Gemm":
        settings = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if settings.get("transA", 0) or settings.get("alpha", 1.0) != 1 or settings.get("beta", 1.0) != 1:
            return [node]
        matrix = matrix.T if settings.get("transB", 0) else matrix
        bias = node.input[2] if len(node.input) > 2 else ""
    k, n = matrix.shape
    padded = np.zeros((n, -(-k // block) * block), dtype=np.float32)
    padded[:, :k] = matrix.T
    numbers, scales = _rounded(padded.reshape(n, -1, block))
    names = [f"{node.name or node.output[0]}.{part}" for part in ("int8", "scales")]
    graph.initializer.append(onnx.numpy_helper.from_array((numbers + 128).astype(np.uint8), names[0]))
    graph.initializer.append(onnx.numpy_helper.from_array(scales.reshape(-1), names[1]))
    inputs = [node.input[0], *names, *(["", "", bias] if bias else [])]
    settings = {"K": k, "N": n, "bits": 8, "block_size": block, "accuracy_level": 4}  # 4: activations in 8 bits too
    return [
        onnx.helper.make_node(
            "MatMulNBits", inputs, list(node.output), name=node.name, domain="com.microsoft", **settings
        )
    ]


def _rows(onnx: Any, graph: Any, node: Any, weight: Any) -> list[Any]:
    """`W[ids]`, with a scale for each row of W `(v, d)`."""
    numbers, scales = _rounded(onnx.numpy_helper.to_array(weight))
    if f"{weight.name}.int8" not in {one.name for one in graph.initializer}:
        graph.initializer.append(onnx.numpy_helper.from_array(numbers.astype(np.int8), f"{weight.name}.int8"))
        graph.initializer.append(onnx.numpy_helper.from_array(scales, f"{weight.name}.scales"))
    (out,), ids, make = node.output, node.input[1], onnx.helper.make_node
    return [
        make("Gather", [f"{weight.name}.int8", ids], [f"{out}.int8"]),
        make("Cast", [f"{out}.int8"], [f"{out}.float"], to=onnx.TensorProto.FLOAT),
        make("Gather", [f"{weight.name}.scales", ids], [f"{out}.scales"]),
        make("Mul", [f"{out}.float", f"{out}.scales"], [out]),
    ]


def _rounded(matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Numbers of -127 to 127, and a scale for each last axis `(..., 1)`, the product of which is nearly the matrix."""
    scales = (np.abs(matrix).max(axis=-1, keepdims=True) / 127).astype(np.float32)
    scales[scales == 0] = 1
    return np.rint(matrix / scales), scales
