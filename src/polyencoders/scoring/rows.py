"""Vectors as the caller has them, array or tensor, seen without a copy where their memory allows it."""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Vectors = torch.Tensor | NDArray[np.floating[Any]]
else:
    Vectors = Any

ELEMENTS = ("float32", "float64", "float16", "bfloat16")  # In the order in which the kernel numbers them


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a PyTorch tensor, without importing PyTorch: where it is not loaded, nothing is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


class Rows:
    """An `(n, d)` matrix with contiguous rows of float16, bfloat16, float32 or float64.

    Copied only when it has to be: when the numbers of a row do not lie side by side, are not aligned or not in this
    machine's byte order. The matrix must not be changed while it is in use.

    Raises
    ------
    TypeError
        Neither a tensor nor an array, or numbers that are not floating-point.
    ValueError
        Not two-dimensional, or rows of no numbers.
    """

    def __init__(self, vectors: Vectors, what: str) -> None:
        self.of_numpy = isinstance(vectors, np.ndarray)
        self.on_device = False  # Whether the rows lie on a GPU or another device than the processor
        self.matrix: Any
        if isinstance(vectors, np.ndarray):
            self.element = vectors.dtype.name
            _check(self.element, tuple(vectors.shape), what)
            self.matrix = _rows_of_array(vectors)
            self.address = self.matrix.__array_interface__["data"][0]
            self.stride = self.matrix.strides[0] // self.matrix.itemsize
        elif is_tensor(vectors):
            self.element = str(vectors.dtype).removeprefix("torch.")
            _check(self.element, tuple(vectors.shape), what)
            vectors = vectors.detach()
            aligned = vectors.data_ptr() % vectors.element_size() == 0
            self.matrix = vectors if vectors.stride(1) == 1 and aligned else vectors.contiguous().clone()
            self.address = self.matrix.data_ptr()
            self.stride = self.matrix.stride(0)
            self.on_device = vectors.device.type != "cpu"
        else:
            raise TypeError(f"{what}: expected a tensor or a numpy array, got {type(vectors).__name__}")
        self.n = int(self.matrix.shape[0])
        self.d = int(self.matrix.shape[1])

    def array(self, places: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows in main memory as float32, or as float64 if they are."""
        if self.of_numpy:
            return np.asarray(self.matrix[places], dtype=np.float64 if self.element == "float64" else np.float32)
        some = self.matrix[places].cpu()
        return np.asarray((some if self.element == "float64" else some.float()).numpy())


def _check(element: str, shape: tuple[int, ...], what: str) -> None:
    if element not in ELEMENTS:
        raise TypeError(f"{what}: expected numbers of {', '.join(ELEMENTS)}, got {element}")
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"{what}: expected a matrix (n, d) with d at least 1, got the shape {shape}")


def _rows_of_array(array: NDArray[Any]) -> NDArray[Any]:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    side_by_side = array.strides[1] == array.itemsize or array.shape[1] == 1
    if array.flags.aligned and side_by_side and array.strides[0] % array.itemsize == 0:
        return array
    return np.require(array, requirements=["C", "A"]) if not array.flags.aligned else np.ascontiguousarray(array)
