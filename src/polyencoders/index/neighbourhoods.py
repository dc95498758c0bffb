"""Documents in an order in which neighbours lie together: tiles of 32, each with its centre and how far it reaches.

First k-means (FAISS), then each cluster is halved by its widest direction until 32 documents are left. Knows vectors;
nothing of documents or files.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import MissingExtraError
from polyencoders.scoring.selection import TILE

DOCUMENTS_IN_A_CLUSTER = 1_000
MOST_CLUSTERS = 16_384
SAMPLED_FOR_EACH = 100
MOST_SAMPLED = 1 << 18
"""Vectors that k-means sees, at most: what is in memory does not grow with the documents."""
_ROUNDS_OF_KMEANS = 8
_ROUNDS_OF_HALVING = 4

Vectors = NDArray[np.float32]


class Tiles(NamedTuple):
    """What is known of tiles of 32 documents without looking at them."""

    centres: Vectors
    """`(tiles, d)`: directions, of length 1; zeros where the documents have none in common."""
    lengths: NDArray[np.float32]
    """`(tiles,)`: the root of the documents' mean square."""
    longest: NDArray[np.float32]
    """`(tiles,)`: no document is longer."""
    cosines: NDArray[np.float32]
    """`(tiles,)`: no document's cosine with the centre is smaller."""


def clusters_for(n: int) -> int:
    """How many clusters n documents are first put in."""
    return max(1, min(MOST_CLUSTERS, n // DOCUMENTS_IN_A_CLUSTER))


def clustering(sample: Vectors, clusters: int) -> Any:
    """A FAISS index that finds the cluster of a vector, from a sample of them."""
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "index") from None
    kmeans = faiss.Kmeans(
        sample.shape[1],
        clusters,
        niter=_ROUNDS_OF_KMEANS,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=SAMPLED_FOR_EACH,
    )
    kmeans.train(np.ascontiguousarray(sample))
    return kmeans.index


def halved(vectors: Vectors) -> list[NDArray[np.int64]]:
    """The vectors of a cluster in tiles of 32 neighbours; the last tile of each half that cannot be filled is shorter.

    A cluster is cut across the line between the means of its halves, found in a few rounds from two of its vectors;
    every cut leaves whole tiles on one side, so that only one tile of all is short.

    Parameters
    ----------
    vectors
        `(n, d)`.

    Returns
    -------
    list of numpy.ndarray
        Places of the vectors, tile by tile.

    Examples
    --------
    >>> [len(tile) for tile in halved(np.eye(100, dtype=np.float32))]
    [32, 32, 32, 4]
    """
    generator = np.random.default_rng(0)
    done: list[NDArray[np.int64]] = []
    waiting = [np.arange(len(vectors))]
    while waiting:
        places = waiting.pop()
        if len(places) <= TILE:
            done.append(places)
            continue
        some = vectors[places]
        first, second = generator.choice(len(places), 2, replace=False)
        line = some[first] - some[second]
        middle = len(places) // 2
        for _ in range(_ROUNDS_OF_HALVING):
            order = np.argpartition(some @ line, middle)
            line = some[order[middle:]].mean(0) - some[order[:middle]].mean(0)
        tiles = -(-len(places) // TILE)
        cut = tiles // 2 * TILE
        order = np.argpartition(-(some @ line), cut)
        waiting += [places[order[cut:]], places[order[:cut]]]
    return sorted(done, key=len, reverse=True)


def described(vectors: Vectors) -> Tiles:
    """What there is to know of each 32 vectors; rows of zeros are padding, or documents as good as that.

    Parameters
    ----------
    vectors
        `(32 * tiles, d)`.
    """
    grouped = vectors.reshape(-1, TILE, vectors.shape[1])
    lengths = np.linalg.norm(grouped.astype(np.float64), axis=2)
    there = lengths > 0
    means = grouped.astype(np.float64).sum(1)
    sizes = np.linalg.norm(means, axis=1, keepdims=True)
    centres = np.divide(means, sizes, out=np.zeros_like(means), where=sizes > 0).astype(np.float32)
    products = np.einsum("tjd,td->tj", grouped.astype(np.float64), centres.astype(np.float64))
    cosines = np.divide(products, lengths, out=np.ones_like(lengths), where=there).min(1)
    count = np.maximum(1, there.sum(1))
    return Tiles(
        centres,
        np.sqrt((lengths**2).sum(1) / count).astype(np.float32),
        (lengths.max(1) * (1 + 1e-6)).astype(np.float32),
        np.maximum(-1, cosines - 1e-5).astype(np.float32),
    )


def reach(tiles: Tiles, cosines: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """An upper bound of a vector's inner product with any document of each tile.

    A document lies in a cone about its tile's centre, of an angle phi with `cos phi = cosines`; a vector at the angle
    theta from the centre is at least `theta - phi` from the document: `y . c <= |y| |c| cos(theta - phi)`.

    Parameters
    ----------
    tiles
        As described.
    cosines
        `(tiles,)`: upper bounds of the vector's cosines with the centres.
    length
        Of the vector.
    """
    theta = np.clip(cosines, -1, 1)
    phi = tiles.cosines.astype(np.float64)
    apart = theta * phi + np.sqrt((1 - theta**2) * (1 - phi**2))
    nearest = np.where(theta >= phi, 1.0, apart)
    return np.maximum(0, nearest) * length * tiles.longest * (1 + 1e-6)
