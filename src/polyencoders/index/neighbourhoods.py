"""An order of documents in which neighbours lie together: tiles of 32, each with its centre and how far it reaches.

First k-means (FAISS); then each cluster is halved by its widest direction until 32 documents are left.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import MissingExtraError
from polyencoders.scoring.selection import TILE

DOCUMENTS_IN_A_CLUSTER = 1_000
MOST_CLUSTERS = 16_384
SAMPLED_FOR_EACH = 100
MOST_SAMPLED = 1 << 18  # Vectors that k-means sees, at most: memory does not grow with the documents
_ROUNDS_OF_KMEANS = 8
_ROUNDS_OF_HALVING = 4

Vectors = NDArray[np.float32]


class Tiles(NamedTuple):
    """What is known about tiles of 32 documents without looking at the documents."""

    centres: Vectors  # `(tiles, d)`: directions, of length 1; zeros where the documents have none in common
    lengths: NDArray[np.float32]  # `(tiles,)`: the root of the documents' mean square
    longest: NDArray[np.float32]  # `(tiles,)`: no document is longer
    cosines: NDArray[np.float32]  # `(tiles,)`: no document's cosine with the centre is smaller


def clusters_for(n: int) -> int:
    """How many clusters n documents are first put in."""
    return max(1, min(MOST_CLUSTERS, n // DOCUMENTS_IN_A_CLUSTER))


def clustering(sample: Vectors, clusters: int) -> Any:
    """A FAISS index that finds the cluster of a vector, trained on a sample of the vectors."""
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
    """Cut a cluster's vectors `(n, d)` into tiles of 32 neighbours; returns their places, tile by tile.

    The cut is across the line between the means of the two halves, found in a few rounds from two of the vectors. Every
    cut leaves whole tiles on one side, so that only one tile, the last, is shorter.

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
        cut = -(-len(places) // TILE) // 2 * TILE
        order = np.argpartition(-(some @ line), cut)
        waiting += [places[order[cut:]], places[order[:cut]]]
    return sorted(done, key=len, reverse=True)


def described(vectors: Vectors) -> Tiles:
    """Describe each 32 of the vectors `(32 * tiles, d)`. Rows of zeros are padding."""
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
    """An upper bound of a vector's inner product with any document of each tile, `(tiles,)`.

    A document lies in a cone about its tile's centre, of an angle phi with `cos phi = tiles.cosines`; a vector at the
    angle theta from the centre has `y . c <= |y| |c| cos(theta - phi)`. `cosines` `(tiles,)` bound the `cos theta`.
    """
    theta = np.clip(cosines, -1, 1)
    phi = tiles.cosines.astype(np.float64)
    apart = theta * phi + np.sqrt((1 - theta**2) * (1 - phi**2))
    nearest = np.where(theta >= phi, 1.0, apart)
    return np.maximum(0, nearest) * length * tiles.longest * (1 + 1e-6)
