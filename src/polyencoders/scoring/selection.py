"""Some of the documents, in the form in which they are searched: tiles of 32 neighbours, and a bit for each document.

Knows positions; nothing of vectors or scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 32  # Documents that the kernel multiplies together: 32 neighbours by position

_BITS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


class Selection:
    """The documents that a search may find.

    Parameters
    ----------
    allowed
        `(n,)` truth values, one for each document.
    tiles
        The tiles of 32 documents to look at, in that order, each at most once; all that hold an allowed document by
        default. The first ones should be those that most probably hold good documents: the search then dismisses the
        rest sooner.

    Raises
    ------
    ValueError
        `allowed` is not a vector, or a tile is not there.

    Examples
    --------
    >>> selection = Selection(np.arange(100) % 50 == 7)
    >>> len(selection), selection.tiles
    (2, array([0, 1], dtype=int32))
    >>> len(selection.within([1]))
    1
    """

    def __init__(self, allowed: NDArray[np.bool_] | Sequence[bool], tiles: Any = None) -> None:
        given = np.asarray(allowed, dtype=bool)
        if given.ndim != 1:
            raise ValueError(f"allowed documents: expected one truth value for each, got the shape {given.shape}")
        self.n = len(given)  # Documents in all
        padded = np.zeros(-(-self.n // TILE) * TILE, dtype=bool)
        padded[: self.n] = given
        bits = np.packbits(padded, bitorder="little")
        self.words: NDArray[np.uint32] = bits.view("<u4").astype(np.uint32, copy=False)
        """A bit for each document of a tile, by tile."""
        self.sizes: NDArray[np.int64] = _BITS[bits].reshape(-1, 4).sum(1, dtype=np.int64)
        """Allowed documents of each tile."""
        self.tiles: NDArray[np.int32] = self._checked(np.flatnonzero(self.sizes) if tiles is None else tiles)

    def __len__(self) -> int:
        return int(self.sizes[self.tiles].sum())

    def within(self, tiles: Any) -> "Selection":
        """The same documents, but only those of these tiles, looked at in this order."""
        fewer = object.__new__(Selection)
        fewer.n, fewer.words, fewer.sizes = self.n, self.words, self.sizes
        fewer.tiles = self._checked(tiles)
        return fewer

    def mask(self) -> NDArray[np.bool_]:
        """`(n,)`: whether a search may find the document."""
        chosen = np.zeros_like(self.words)
        chosen[self.tiles] = self.words[self.tiles]
        return np.unpackbits(chosen.astype("<u4").view(np.uint8), bitorder="little")[: self.n].astype(bool)

    def _checked(self, tiles: Any) -> NDArray[np.int32]:
        order = np.ascontiguousarray(tiles, dtype=np.int32)
        if len(order) and not (int(order.min()) >= 0 and int(order.max()) < len(self.words)):
            raise ValueError(f"tiles: expected numbers from 0 to {len(self.words) - 1}")
        return order
