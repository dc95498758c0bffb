"""A model that many requests use at once, with each document encoded once."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders import DocumentCache, Encoder, PairScorer, Query, Vectors, distinct
from polyencoders.encoders.calibration import Calibration
from polyencoders.encoders.protocols import is_encoder, is_pair_scorer
from polyencoders.scoring import score_all_pairs
from polyencoders.serving.batching import Lane, Watch, Work, Worker, ignore, pace_of
from polyencoders.serving.settings import Settings


class Engine:
    """A model, its thread and its document vectors; `name` is what clients see, never a path.

    The vectors of `before`, the engine that this one replaces, are kept if both encode documents alike.
    """

    def __init__(
        self,
        model: Encoder | PairScorer,
        name: str,
        settings: Settings,
        before: "Engine | None" = None,
        watch: Watch = ignore,
    ) -> None:
        self.model = model
        self.name = name
        self.calibration: Calibration | None = None
        """What makes its scores probabilities."""
        self.cache: DocumentCache | None = None
        short: Work
        long: Work
        text = "How long does it take to read this? " * 8
        if is_encoder(model):
            self.cache = DocumentCache(model, settings.cache, settings.cache_bytes, settings.bf16)
            if before is not None and before.cache is not None:
                self.cache.take_over(before.cache)
            read, cache = model.document_encoder(self.cache.bf16), self.cache
            short, long = model.encode_queries, lambda texts: cache.fill(texts, encode=read)
            paces: dict[Lane, float] = {"short": pace_of(short, [text]), "long": pace_of(read, [text] * 8)}
        else:
            assert is_pair_scorer(model)
            short = long = model.score_pairs
            paces = {"long": pace_of(long, [(text, f"{number} {text}") for number in range(8)])}
        model.count_tokens([""])  # makes the tokeniser that counts, before another thread uses the model
        self._counter = ThreadPoolExecutor(1, "tokens")
        self.worker = Worker(short, long, wait=settings.limits.wait, watch=watch, paces=paces)

    async def scores(self, query: Query, documents: Sequence[str]) -> NDArray[np.float64]:
        """Return the model's scores of documents for a query, `(n,)`; equal documents get equal scores."""
        if not documents:
            return np.empty(0)
        texts, places = distinct(documents)
        if not is_encoder(self.model):
            scores = await self._ask("long", [(query, text) for text in texts])
        else:
            # The query first: the cost of its own documents must not refuse it.
            codes, vectors = await asyncio.gather(self.query_vectors([query]), self.document_vectors(texts))
            scores = np.asarray(score_all_pairs(codes, vectors, self.model.temperature)[0])
        return scores[places].astype(np.float64)

    async def query_vectors(self, queries: Sequence[Query]) -> Vectors:
        """Return query codes `(q, m, d)`; one code where a query is a single vector."""
        return await self._ask("short", list(queries))

    async def document_vectors(self, texts: Sequence[str]) -> Vectors:
        """Return document vectors `(n, d)`; texts that were seen before are not encoded again."""
        assert self.cache is not None
        vectors, missing = self.cache.look_up(texts)
        if missing:
            vectors[missing] = await self._ask("long", [texts[place] for place in missing])
        return vectors

    def encode_for_index(self, texts: list[str], done: Callable[[int], object]) -> Vectors:
        """Encode documents `(n, d)` for `Index.add`, which calls from another thread, in the model's own thread."""
        vectors = self.worker.submit("long", texts).result()
        done(len(texts))
        return vectors

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the model's thread."""
        return await asyncio.wrap_future(self.worker.call(function))

    async def tokens(self, texts: Sequence[str]) -> int:
        """Count the tokens of texts, as many as are read."""
        counted = await asyncio.get_running_loop().run_in_executor(self._counter, self.model.count_tokens, list(texts))
        return sum(counted)

    def close(self) -> None:
        """Finish the work that waits, and release everything."""
        self.worker.close()
        self._counter.shutdown(wait=False, cancel_futures=True)
        if self.cache is not None:
            self.cache.close()

    async def _ask(self, lane: Lane, items: list[Any]) -> Vectors:
        return await asyncio.wrap_future(self.worker.submit(lane, items))  # cancelled with the request
