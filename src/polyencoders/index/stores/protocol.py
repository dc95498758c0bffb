"""What a vector store has to offer so that a poly-encoder can search it, and the error when it does not.

Knows vectors, documents and what is asked of a store; no store in particular, and nothing of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import PolyencodersError


class StoreError(PolyencodersError, RuntimeError):
    """A vector store that cannot be reached, or cannot be used as it is."""


class Neighbours(NamedTuple):
    """The documents with the largest inner products with one vector, the largest first."""

    ids: list[str]
    products: NDArray[np.floating[Any]]
    """As the store computed them: in float32, most likely."""


class StoredDocument(NamedTuple):
    """A document as a store holds it."""

    id: str
    vector: NDArray[np.float32]
    text: str
    metadata: dict[str, Any]


class DocumentStore(Protocol):
    """Vectors of documents in somebody else's keeping."""

    @property
    def dimension(self) -> int:
        """d: how many numbers a vector has."""
        ...

    @property
    def longest(self) -> float:
        """No stored vector is longer: what the rounding of inner products is reckoned from."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a search sees every document: only then do K neighbours say something about all the others."""
        ...

    def search(self, vectors: NDArray[np.float32], k: int, where: str | None = None) -> list[Neighbours]:
        """The k documents with the largest inner products, for each of `vectors` `(q, d)`; fewer if there are fewer.

        `where` is a condition on the documents, in the store's own language.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> list[StoredDocument]:
        """The documents with these ids, in any order; one that is gone is left out."""
        ...

    def __len__(self) -> int:
        """How many documents there are."""
        ...
