"""Documents made ready for search, and the search for the best of them.

The score is in `reference.py`. How the search finds the best without scoring all of them is in `docs/scoring.md`.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.scoring.block_search import search_in_blocks
from polyencoders.scoring.kernel import MOST_CODES, native, search_path
from polyencoders.scoring.rows import ELEMENTS, Rows, Vectors, is_tensor
from polyencoders.scoring.selection import TILE, Selection
from polyencoders.scoring.threads import threads

LONGEST = 1e15
"""Vectors up to this length are taken: products of two stay well within float32."""

CODES_AT_ONCE = 1 << 21
"""Numbers of query codes that are held in float64 at a time (16 MB)."""


class TopK(NamedTuple):
    """The best documents of every query, best first; tensors or arrays, as the query codes were."""

    scores: Any
    """`(q, k)`, float64."""
    indices: Any
    """`(q, k)`, int64: positions among the documents."""


class PreparedDocuments:
    """Document vectors with the 8-bit copy of them that makes searching fast.

    The vectors stay where they are and are not copied (unless the numbers of a row do not lie side by side): do not
    change them afterwards. The 8-bit copy takes `d + 12` bytes a document, a quarter of float32 vectors. Documents on
    another device than the processor are searched there, by PyTorch, and need no copy.

    Parameters
    ----------
    documents
        `(n, d)`, tensor or array of float32, float16, bfloat16 or float64; n may be 0.
    kept
        A folder in which `keep` left the 8-bit copy of these very documents: then they are not read, and those that no
        search scores may stay on disk. Made anew by default, and where the folder has none.
    first
        Where these documents are a part of those the folder was kept of: the position of the first, a multiple of 32.

    Raises
    ------
    TypeError
        Not vectors, or not of floating-point numbers.
    ValueError
        Not a matrix; a number that is not finite; a vector longer than 1e15.

    Examples
    --------
    >>> documents = PreparedDocuments(np.array([[2.0, 2.0], [0.0, 3.0], [1.0, 0.0]]))
    >>> codes = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> scores, indices = documents.search(codes, k=2)
    >>> indices
    array([[1, 0]])
    >>> scores.round(4)
    array([[2.8577, 2.    ]])
    """

    def __init__(
        self, documents: Vectors, kept: str | os.PathLike[str] | None = None, first: int | None = None
    ) -> None:
        self.rows = Rows(documents, "documents")
        self._tiles: dict[str, NDArray[Any]] | None = None
        self.work: dict[str, int] = {}
        """What the last search did, over its queries: documents that the bounds in 8 bits left (`screened`), and those
        scored against all codes (`rescored`)."""
        if not self.rows.on_device and search_path() != "numpy":
            self._prepare(Path(kept) if kept is not None else None, first)
        elif kept is None:
            self._check()

    def __len__(self) -> int:
        return self.rows.n

    def __repr__(self) -> str:
        return f"PreparedDocuments({self.rows.n:,} documents of {self.rows.d} dimensions, {self.rows.element})"

    def keep(self, folder: str | os.PathLike[str]) -> None:
        """Append the 8-bit copy to files in a folder, for `PreparedDocuments(documents, kept=folder)`.

        Documents may be kept one part after another, each but the last a multiple of 32. Without the native kernel
        there is no copy, and nothing is written.
        """
        for name, tiles in (self._tiles or {}).items():
            with (Path(folder) / f"tiles.{name}").open("ab") as file:
                file.write(tiles.data)

    @property
    def nbytes(self) -> int:
        """Bytes that preparing took, beside the vectors."""
        return sum(tiles.nbytes for tiles in self._tiles.values()) if self._tiles else 0

    def search(
        self,
        query_codes: Vectors,
        k: int = 10,
        temperature: float = 1.0,
        selection: Selection | None = None,
        addends: NDArray[np.floating[Any]] | None = None,
    ) -> TopK:
        """The k documents with the highest scores: exactly those, by score in float64 and, where equal, by index.

        Uses as many threads as `scoring.threads()` says, and releases the interpreter's lock. Beyond the documents,
        the codes and the result it takes some 40 MB at most, however many documents and queries there are.

        Parameters
        ----------
        query_codes
            `(q, m, d)`, tensor or array. A code of zeros is absent. `(q, d)` is one vector a query: a bi-encoder's.
        k
            How many; all of them where there are fewer.
        temperature
            Of the softmax over the codes; 1 is the paper's.
        selection
            The documents among which to find them; all by default.
        addends
            `(q, n)`: what is known of each document beside its vector, added to its score; as float32. The k best are
            then those with the highest sums.

        Returns
        -------
        TopK
            scores `(q, k)` and indices `(q, k)`, best first.

        Raises
        ------
        TypeError
            Not vectors, or not of floating-point numbers.
        ValueError
            Shapes that do not fit the documents, a number that is not finite, a code longer than 1e15 or an addend
            larger, k below 1, a temperature that is not a number above 0, or a selection among another number of
            documents.
        """
        rows, queries, m = _rows_of_codes(query_codes, self.rows.d)
        if k < 1:
            raise ValueError(f"k, how many documents to find, must be at least 1, got {k}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature must be a number above 0, got {temperature}")
        if selection is not None and selection.n != self.rows.n:
            raise ValueError(f"the selection is among {selection.n} documents, and there are {self.rows.n}")
        if addends is not None:
            addends = _checked_addends(addends, queries, self.rows.n)
        k = min(k, self.rows.n if selection is None else len(selection))
        scores, indices = np.empty((queries, k)), np.empty((queries, k), dtype=np.int64)
        path = search_path()
        natively = self._tiles is not None and m <= MOST_CODES and path != "numpy"
        self.work = {"screened": 0, "rescored": 0}
        at_once = max(1, CODES_AT_ONCE // (m * self.rows.d))
        for start in range(0, queries, at_once):
            codes = _checked_codes(rows, start, min(queries, start + at_once), m)
            if k == 0:
                continue
            here = slice(start, start + len(codes))
            added = addends[here] if addends is not None else None
            if natively:
                self._search_natively(path, codes, temperature, selection, added, scores[here], indices[here])
            else:
                places = None if selection is None else np.flatnonzero(selection.mask())
                scores[here], indices[here] = search_in_blocks(codes, self.rows, k, temperature, places, added)
        if rows.of_numpy:
            return TopK(scores, indices)
        torch = sys.modules["torch"]
        return TopK(torch.from_numpy(scores), torch.from_numpy(indices))

    def estimate(self, vectors: Vectors) -> NDArray[np.float32]:
        """Inner products of single vectors with every document, from 8 bits of both: good to about two digits.

        Parameters
        ----------
        vectors
            `(q, d)`, tensor or array.

        Returns
        -------
        numpy.ndarray
            `(q, n)`, float32.

        Raises
        ------
        TypeError, ValueError
            As in `search`.

        Examples
        --------
        >>> PreparedDocuments(np.eye(3)).estimate(np.array([[0.0, 1.0, 0.5]])).round(1)
        array([[0. , 1. , 0.5]], dtype=float32)
        """
        rows, queries, m = _rows_of_codes(vectors, self.rows.d)
        if m != 1:
            raise ValueError(f"expected single vectors (q, {self.rows.d}), got {m} for each query")
        checked = _checked_codes(rows, 0, queries, 1)[:, 0]
        if self._tiles is None or search_path() == "numpy":
            return np.asarray(checked.astype(np.float32) @ self.rows.array(slice(None)).astype(np.float32).T)
        out = np.empty((queries, self.rows.n), dtype=np.float32)
        self._native.estimate(search_path(), checked.ctypes.data, queries, threads(), out.ctypes.data)
        return out

    def _search_natively(
        self,
        path: str,
        codes: NDArray[np.float64],
        temperature: float,
        selection: Selection | None,
        addends: NDArray[np.float32] | None,
        scores: NDArray[np.float64],
        indices: NDArray[np.int64],
    ) -> None:
        queries, m, _ = codes.shape
        selected = (0, 0, 0)
        if selection is not None:
            selected = (selection.tiles.ctypes.data, len(selection.tiles), selection.words.ctypes.data)
        screened, rescored = self._native.search(
            path,
            selected,
            codes.ctypes.data,
            addends.ctypes.data if addends is not None else 0,
            queries,
            m,
            temperature,
            scores.shape[1],
            threads(),
            scores.ctypes.data,
            indices.ctypes.data,
        )
        self.work["screened"] += screened
        self.work["rescored"] += rescored

    def _prepare(self, kept: Path | None, first: int | None) -> None:
        kernel = native()
        assert kernel is not None
        padded = -(-self.rows.n // TILE) * TILE
        self._tiles = {
            "bytes": _in_large_pages(padded * (-(-self.rows.d // 4) * 4)),
            **{name: np.empty(padded, dtype=np.float32) for name in ("scale", "error", "length")},
        }
        files = {kept / f"tiles.{name}": tiles for name, tiles in self._tiles.items()} if kept is not None else {}
        read = bool(files) and all(file.exists() for file in files)
        for file, tiles in files.items() if read else ():
            before = tiles.nbytes // max(1, padded) * (first or 0)
            there = file.stat().st_size - before
            if there < tiles.nbytes or (first is None and there > tiles.nbytes):
                raise ValueError(f"{file}: {there:,} bytes, and these documents take {tiles.nbytes:,}")
            with file.open("rb") as stream:
                stream.seek(before)
                stream.readinto(tiles.view(np.uint8).data)
        rows, addresses = self.rows, (tiles.ctypes.data for tiles in self._tiles.values())
        element = ELEMENTS.index(rows.element)
        self._native = kernel.Prepared(rows.address, rows.n, rows.d, rows.stride, element, *addresses)
        if read:
            return
        bad = self._native.prepare(search_path(), LONGEST, threads())
        if bad >= 0:
            raise ValueError(_what_is_wrong(self.rows.array(slice(bad, bad + 1))[0], f"document {bad}"))

    def _check(self) -> None:
        for start in range(0, self.rows.n, 1 << 14):
            documents = self.rows.array(slice(start, start + (1 << 14))).astype(np.float64)
            bad = np.flatnonzero(~(np.linalg.norm(documents, axis=1) <= LONGEST))
            if len(bad):
                raise ValueError(_what_is_wrong(documents[bad[0]], f"document {start + bad[0]}"))


def search(documents: Vectors | PreparedDocuments, query_codes: Vectors, k: int = 10, temperature: float = 1.0) -> TopK:
    """The k documents with the highest scores, of documents that are searched this once.

    Preparing documents takes about as long as ten searches: to search the same ones again, keep a `PreparedDocuments`.

    Parameters
    ----------
    documents
        `(n, d)`, or prepared.
    query_codes, k, temperature
        As in `PreparedDocuments.search`, which see for what is returned and raised.

    Examples
    --------
    >>> search(np.eye(3), np.array([[0.0, 1.0, 0.5]]), k=2).indices
    array([[1, 2]])
    """
    prepared = documents if isinstance(documents, PreparedDocuments) else PreparedDocuments(documents)
    return prepared.search(query_codes, k, temperature)


def _in_large_pages(size: int) -> NDArray[np.uint8]:
    """Bytes in memory pages of 2 MB where the system gives them: reading them in order is half as fast again."""
    if size < 1 << 22 or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(size, dtype=np.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8)


def _rows_of_codes(query_codes: Vectors, d: int) -> tuple[Rows, int, int]:
    """The codes of all queries one below another, how many queries there are, and how many codes each has."""
    if not (isinstance(query_codes, np.ndarray) or is_tensor(query_codes)):
        raise TypeError(f"query codes: expected a tensor or a numpy array, got {type(query_codes).__name__}")
    shape = tuple(query_codes.shape)
    if len(shape) not in (2, 3) or shape[-1] != d or (len(shape) == 3 and shape[1] == 0):
        raise ValueError(f"expected query codes (q, m, {d}) or (q, {d}) for documents of {d} dimensions, got {shape}")
    m = shape[1] if len(shape) == 3 else 1
    return Rows(query_codes.reshape(-1, d), "query codes"), shape[0], m


def _checked_codes(rows: Rows, start: int, stop: int, m: int) -> NDArray[np.float64]:
    """The codes of some queries in float64, `(stop - start, m, d)`."""
    codes = np.ascontiguousarray(rows.array(slice(start * m, stop * m)), dtype=np.float64).reshape(-1, m, rows.d)
    fit = np.einsum("qmd,qmd->qm", codes, codes) <= LONGEST**2  # NaN does not; BLAS would wake its threads for this
    if not fit.all():
        query, code = np.argwhere(~fit)[0].tolist()
        raise ValueError(_what_is_wrong(codes[query, code], f"code {code} of query {start + query}"))
    return codes


def _checked_addends(addends: NDArray[np.floating[Any]], queries: int, n: int) -> NDArray[np.float32]:
    """Addends in float32, `(q, n)` in whole tiles of documents."""
    if not (isinstance(addends, np.ndarray) and np.issubdtype(addends.dtype, np.floating)):
        raise TypeError(f"addends: expected an array of floating-point numbers, got {type(addends).__name__}")
    if addends.shape != (queries, n):
        raise ValueError(f"addends: expected ({queries}, {n}), one for each query and document, got {addends.shape}")
    if addends.size and not (addends.min() >= -LONGEST and addends.max() <= LONGEST):  # not for NaN
        raise ValueError(f"addends: expected numbers from {-LONGEST:.0e} to {LONGEST:.0e}")
    padded = np.pad(addends, ((0, 0), (0, -n % TILE))) if n % TILE else addends
    return np.ascontiguousarray(padded, dtype=np.float32)


def _what_is_wrong(vector: NDArray[Any], which: str) -> str:
    wrong = np.flatnonzero(~np.isfinite(vector))
    if len(wrong):
        return f"{which} has {float(vector[wrong[0]])} at dimension {wrong[0]}: expected finite numbers"
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return f"{which} has the length {length:.3g}: expected at most {LONGEST:.0e}; scale the vectors"
