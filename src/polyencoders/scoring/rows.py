"""Vectors as the caller has them, tensor or array, seen without a copy where their memory allows it.

Knows memory: element types, strides, alignment. Nothing of scores.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vectors = Tensor | NDArray[np.floating[Any]]

ELEMENTS = ("float32", "float64", "float16", "bfloat16")
"""In the order in which the kernel numbers them."""


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
        self.matrix: Vectors
        if isinstance(vectors, np.ndarray):
            self.element = vectors.dtype.name
            _check(self.element, tuple(vectors.shape), what)
            self.matrix = _rows_of_array(vectors)
            self.address = self.matrix.__array_interface__["data"][0]
            self.stride = self.matrix.strides[0] // self.matrix.itemsize
        elif isinstance(vectors, Tensor):
            self.element = str(vectors.dtype).removeprefix("torch.")
            _check(self.element, tuple(vectors.shape), what)
            vectors = vectors.detach()
            aligned = vectors.data_ptr() % vectors.element_size() == 0
            self.matrix = vectors if vectors.stride(1) == 1 and aligned else vectors.contiguous().clone()
            self.address = self.matrix.data_ptr()
            self.stride = self.matrix.stride(0)
        else:
            raise TypeError(f"{what}: expected a tensor or a numpy array, got {type(vectors).__name__}")
        self.n = int(self.matrix.shape[0])
        self.d = int(self.matrix.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the rows are; an array is in main memory."""
        return self.matrix.device if isinstance(self.matrix, Tensor) else torch.device("cpu")

    def tensor(self) -> Tensor:
        """The rows as a tensor, without a copy but for arrays that run backwards."""
        if isinstance(self.matrix, Tensor):
            return self.matrix
        forwards = self.matrix if self.stride >= 0 else np.ascontiguousarray(self.matrix)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(forwards)


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
