"""What a vector store has to offer so that a poly-encoder can search it, and what our own stores have in common."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import PolyencodersError


class StoreError(PolyencodersError, RuntimeError):
    """A vector store cannot be reached, or cannot be used as it is."""


class Neighbours(NamedTuple):
    """The documents with the largest inner products with one vector, the largest first."""

    ids: list[str]
    products: NDArray[np.floating[Any]]  # As the store computed them: most likely in float32


class StoredDocument(NamedTuple):
    """A document as a store holds it."""

    id: str
    vector: NDArray[np.float32]
    text: str
    metadata: dict[str, Any]


class DocumentStore(Protocol):
    """Vectors of documents that something else keeps."""

    @property
    def dimension(self) -> int:
        """d, the length of a vector."""

    @property
    def longest(self) -> float:
        """No stored vector has a larger norm: the rounding of inner products is bounded by it."""

    @property
    def exact(self) -> bool:
        """Whether a search sees every document: only then do K neighbours say something about all the others."""

    def search(self, vectors: NDArray[np.float32], k: int, where: str | None = None) -> list[Neighbours]:
        """The k documents with the largest inner products, for each of `vectors` `(q, d)`; fewer if there are fewer.

        `where` is a condition on the documents, in the store's own language.
        """

    def fetch(self, ids: Sequence[str]) -> list[StoredDocument]:
        """The documents with these ids, in any order; one that is gone is left out."""

    def __len__(self) -> int:
        """How many documents there are."""


class ClientStore:
    """A store that is reached through a client or a connection, which may have been opened here."""

    dimension: int
    longest: float
    exact: bool
    _name: str
    _client: Any
    _own: bool  # Whether the client was opened here, and so is closed here

    def __repr__(self) -> str:
        how = "exact" if self.exact else "approximate"
        return f"{type(self).__name__}({self._name!r}, {self.dimension} dimensions, {how})"

    def close(self) -> None:
        """Close the client, if it was opened here."""
        if self._own:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _to_add(self, rows: Iterable[Mapping[str, Any]]) -> tuple[list[StoredDocument], float]:
        """Rows as documents, and the largest norm of a vector when they are added."""
        longest = self.longest
        documents = []
        for row in rows:
            vector = np.asarray(row["vector"], dtype=np.float32)
            longest = max(longest, float(np.linalg.norm(vector.astype(np.float64))))
            documents.append(StoredDocument(str(row["id"]), vector, row["text"], dict(row.get("metadata") or {})))
        return documents, longest


def checked_timeout(timeout: float) -> float:
    """A number of seconds above 0, or ValueError."""
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout}")
    return timeout
