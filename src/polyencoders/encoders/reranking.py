"""A reranker: a model that reads pairs reads the best few of a search, and its scores are added to theirs.

    fused(c) = f(c) + v g(c)

f is the score of the search, g the reader's, and v a weight that validation pairs choose. The best n of the search are
read. Of a document that was not read, g counts as the lowest one that was: f and g of what was read are then at least
those of all others, and so is their sum. What was read stays before what was not, and the others keep their order.
"""

import copy
import hashlib
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.loading import load
from polyencoders.encoders.protocols import PairScorer, is_pair_scorer
from polyencoders.encoders.queries import Query, check_query
from polyencoders.errors import ModelError, RefusalError

logger = logging.getLogger(__name__)

TOP = 20  # Documents that are read, unless it is said otherwise
KEPT = 100_000  # Scores that are kept in memory
AT_ONCE = 8  # Pairs that are read between two looks at the clock
_LONGEST, _OVERHEAD = 2_000, 32  # Characters of a text that cost time, and what every pair costs besides


class Reranked(NamedTuple):
    """What a reranker made of the documents of a search."""

    scores: NDArray[np.float64]  # `(n,)`: the fused scores, in the order given
    read: NDArray[np.bool_]  # `(n,)`: which documents were read


def fused(first: NDArray[np.float64], second: NDArray[np.float64], weight: float | None = None) -> NDArray[np.float64]:
    """Add a reader's scores g, `second`, to those of a search, f, `first`: `(n,)` each, as is what is returned.

    g is NaN where a document was not read; where nothing was, f is returned. Without a `weight`, v is the spread of f
    over that of g among what was read, so that each has as much to say as the other.

    >>> fused(np.array([0.9, 0.8, 0.1]), np.array([1.0, 2.0, np.nan]), weight=0.5).tolist()
    [1.4, 1.8, 0.6]
    """
    read = ~np.isnan(second)
    if not read.any():
        return first
    if weight is None:
        spread = second[read].std()
        weight = float(first[read].std() / spread) if spread > 0 else 0.0
    return np.asarray(first + weight * np.where(read, second, second[read].min()))


class Reranker:
    """Reads the best few documents of a search. A pair that was read is not read again.

    Several threads may use it if they may use its model, which must not be trained meanwhile.

    Parameters
    ----------
    model
        A `PairScorer`, such as a cross-encoder, or where to load one from.
    top
        How many of the best are read.
    weight
        v, of the reader's scores; None: as in `fused`.
    budget
        Milliseconds. As many are read as fit; by default all `top`. What was read before takes no time.

    Raises
    ------
    ModelError
        The model cannot be loaded, or reads no pairs.
    ValueError
        `top` is below 1, or weight or budget below 0.

    Examples
    --------
    >>> class Longest:
    ...     def score_pairs(self, pairs, batch_size=32):
    ...         return np.array([len(document) for _, document in pairs])
    >>> reranker = Reranker(Longest(), top=2, weight=0.1)
    >>> reranker.rerank("Tea?", ["No.", "Yes, please.", "Perhaps later."], np.array([0.9, 0.8, 0.7])).scores.round(2)
    array([1.2, 2. , 1. ])
    """

    def __init__(
        self,
        model: PairScorer | str | os.PathLike[str],
        top: int = TOP,
        weight: float | None = None,
        budget: float | None = None,
    ) -> None:
        found: Any = load(model) if isinstance(model, str | os.PathLike) else model
        if not is_pair_scorer(found):
            raise ModelError(
                f"{model if isinstance(model, str | os.PathLike) else type(model).__name__} does not read query and "
                "document together: a reranker is a cross-encoder, or another model with score_pairs"
            )
        self.model = found
        self.name = os.fspath(model) if isinstance(model, str | os.PathLike) else type(model).__name__
        self._kept: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        self._pace = [math.nan]  # Seconds a character; shared by copies
        self._set(top, weight, budget)

    def but(self, top: int | None = None, weight: float | None = None, budget: float | None = None) -> "Reranker":
        """Return the same reranker with other settings where they are given. Both keep the same scores."""
        other = copy.copy(self)
        other._set(
            self.top if top is None else top,
            self.weight if weight is None else weight,
            self.budget if budget is None else budget,
        )
        return other

    def _set(self, top: int, weight: float | None, budget: float | None) -> None:
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise ValueError(f"top, how many documents are read, is a whole number of at least 1, got {top!r}")
        if weight is not None and not 0 <= weight < math.inf:
            raise ValueError(f"the weight of a reranker is a number of at least 0, got {weight!r}")
        if budget is not None and not budget >= 0:
            raise ValueError(f"the budget of a reranker is a number of milliseconds of at least 0, got {budget!r}")
        self.top, self.weight, self.budget = top, weight, budget

    def rerank(self, query: Query, texts: Sequence[str | None], first: NDArray[np.float64]) -> Reranked:
        """Read the best of `n` documents for a query, and fuse the scores with those of the search, `first` `(n,)`.

        A document that is None cannot be read.
        """
        best = np.argsort(-first, kind="stable")[: self.top]
        second = np.full(len(first), np.nan)
        second[best] = self.read(query, [texts[place] for place in best])
        return Reranked(fused(first, second, self.weight), ~np.isnan(second))

    def read(self, query: Query, texts: Sequence[str | None]) -> NDArray[np.float64]:
        """Return the reader's scores `(n,)`, in the order given until the budget is spent; NaN where it did not read.

        A document that the model cannot read (an error, a score that is not finite) is left out, with a warning. An
        error is raised if that is so with every document. A `RefusalError` of the model is raised as it is.
        """
        turns = [query] if isinstance(query, str) else list(check_query(query))
        keys = [_key(turns, text) for text in texts]
        scores = np.full(len(texts), np.nan)
        failed: list[Exception] = []
        left = [place for place, text in enumerate(texts) if text is not None]
        if self.budget and left and math.isnan(self._pace[0]):
            # A model's first call takes longer than any other: the clock starts after it.
            for _ in range(2):
                started = time.perf_counter()
                self._score([(query, texts[left[0]] or "")], [])
                self._pace[0] = (time.perf_counter() - started) / _cost(turns, texts[left[0]] or "")
        ends = math.inf if self.budget is None else time.perf_counter() + self.budget / 1000
        while left:
            with self._lock:
                known = {place: self._kept[keys[place]] for place in left if keys[place] in self._kept}
            costs = [0 if place in known else _cost(turns, texts[place] or "") for place in left]
            number = len(left) if math.isinf(ends) else self._fitting(costs, ends - time.perf_counter())
            if not number:
                break
            now = [place for place in left[:number] if place not in known]
            scores[left[:number]] = [known.get(place, np.nan) for place in left[:number]]
            if now:
                started = time.perf_counter()
                scores[now] = self._score([(query, texts[place] or "") for place in now], failed)
                pace = (time.perf_counter() - started) / sum(costs[:number])
                self._pace[0] += 0.3 * (pace - self._pace[0])
                with self._lock:
                    self._kept.update((keys[place], float(scores[place])) for place in now if scores[place] < math.inf)
                    while len(self._kept) > KEPT:
                        self._kept.popitem(last=False)
            left = left[number:]
        if failed and np.isnan(scores).all():
            raise failed[0]
        return scores

    def _score(self, pairs: list[tuple[Query, str]], failed: list[Exception]) -> NDArray[np.float64]:
        """Score pairs; one by one where the model fails, so that one bad document does not condemn the others."""
        try:
            scores = np.asarray(self.model.score_pairs(pairs), dtype=np.float64).reshape(len(pairs))
        except RefusalError:
            raise  # no document is at fault, and one by one they would be refused as well
        except Exception as error:
            if len(pairs) > 1:
                return np.concatenate([self._score([pair], failed) for pair in pairs])
            failed.append(error)
            scores = np.array([np.nan])
        for place in np.flatnonzero(~np.isfinite(scores)):
            # Not the text itself: the log of a server holds none of a client.
            logger.warning("the reranker could not read a document of %d characters", len(pairs[place][1]))
        return np.where(np.isfinite(scores), scores, np.nan)

    def _fitting(self, costs: list[int], seconds: float) -> int:
        """Count the next documents that can be read in so many seconds: a few at once, at the pace of those before."""
        if seconds <= 0:
            return 0
        number = int((np.cumsum(costs[:AT_ONCE]) * self._pace[0] <= seconds).sum())
        if not number:
            self._pace[0] *= 0.9  # The pace may be wrong, such as that of a cold start: it is tried again some time.
        return number


def _key(turns: list[str], text: str | None) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (*turns, text or ""):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()


def _cost(turns: list[str], text: str) -> int:
    return min(_LONGEST, sum(map(len, turns))) + min(_LONGEST, len(text)) + _OVERHEAD
