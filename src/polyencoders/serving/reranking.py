"""The reranker of a server: it reads the best of each search, with the pairs of many requests in common batches."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from polyencoders.encoders import Query, Reranker, Vectors
from polyencoders.encoders.calibration import Calibration
from polyencoders.index import Answer
from polyencoders.index.reranking import reranked
from polyencoders.serving.engine import Engine

_THREADS = 16
"""Requests that are reranked at once. Their threads only wait for the model's own."""


class Reranking:
    """A reranker whose model has an engine, and so a thread, a queue and a limit of its own.

    Scores are kept by content, over requests, until the server loads again.
    """

    def __init__(self, reranker: Reranker, engine: Engine) -> None:
        self.engine = engine
        self.reranker = Reranker(_Pairs(engine), reranker.top, reranker.weight, reranker.budget)  # type: ignore[arg-type]
        self.reranker.name = reranker.name
        self._threads = ThreadPoolExecutor(_THREADS, "reranking")

    async def rerank(
        self, answer: Answer, query: Query, k: int, reranker: Reranker, calibration: Calibration | None
    ) -> Answer:
        """Return the k best of an answer by a reranker that is `self.reranker` with settings of the request's own."""
        asked = (answer, query, k, reranker, calibration)
        return await asyncio.get_running_loop().run_in_executor(self._threads, reranked, *asked)

    def close(self) -> None:
        """Finish the work that waits, and release everything."""
        self.engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Pairs:
    """Scores pairs in the thread of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def score_pairs(self, pairs: Sequence[tuple[Query, str]], batch_size: int = 32) -> Vectors:
        return self._engine.score_pairs(pairs)
