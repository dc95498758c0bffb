"""A model as the server uses it: asked by many requests at once, each document encoded once.

Knows models, the document cache and the worker; nothing of HTTP or of indexes.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.models.document_cache import DocumentCache
from polyencoders.models.dual import DualEncoder
from polyencoders.models.encoding import encode_documents, encode_queries, in_bf16
from polyencoders.models.joint import JointEncoder
from polyencoders.models.text import Query
from polyencoders.models.warm_cross_encoder import WarmCrossEncoder
from polyencoders.serving.batching import Lane, Work, Worker, pace_of
from polyencoders.serving.settings import Settings

Vectors = NDArray[np.float32]

FEW_CHARACTERS = 256
"""Of queries in a batch, some 60 tokens, up to which one thread is faster than several: they sleep between two matrix
products, and waking them takes longer than their share. Measured: 17 tokens, 9.3 ms on one thread, 11.3 on two."""
Watch = Callable[[Lane, int, float], object]


class Engine:
    """A model, its thread and its document vectors.

    Parameters
    ----------
    model
        Any of the architectures.
    name
        What clients see; never a path.
    settings
        Of the server: the cache, the precision, the limits.
    before
        The engine that this one replaces: where both encode documents alike, its vectors are taken over.
    watch
        Called after each batch.
    """

    def __init__(
        self,
        model: DualEncoder | JointEncoder,
        name: str,
        settings: Settings,
        before: Engine | None = None,
        watch: Watch = lambda lane, items, seconds: None,
    ) -> None:
        self.model = model
        self.name = name
        self.cache: DocumentCache | None = None
        short: Work
        long: Work
        encoder = self.model.eval()
        text = "How long does it take to read this? " * 8
        if isinstance(encoder, DualEncoder):
            self.cache = DocumentCache(encoder, settings.cache, settings.cache_bytes, settings.bf16)
            if before is not None and before.cache is not None:
                self.cache.take_over(before.cache)
            reader = in_bf16(encoder) if self.cache.bf16 else encoder
            read = functools.partial(encode_documents, reader, bf16=False)
            short, long = functools.partial(_read_queries, encoder), functools.partial(self.cache.fill, encode=read)
            paces: dict[Lane, float] = {"short": pace_of(short, [text]), "long": pace_of(read, [text] * 8)}
        else:
            short = long = self._predict
            paces = {"long": pace_of(long, [(text, f"{number} {text}") for number in range(8)])}
        # Counting tokens with the tokeniser that the model's thread uses would be a second thread in it.
        self._counting: Any = copy.deepcopy(encoder.tokenizer)
        self._counter = ThreadPoolExecutor(1, "tokens")
        self.worker = Worker(short, long, wait=settings.limits.wait, watch=watch, paces=paces)

    @property
    def architecture(self) -> str:
        """The name of the model's class."""
        return type(self.model).__name__

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines, between -1 and 1."""
        return isinstance(self.model, DualEncoder | WarmCrossEncoder) and self.model.normalize

    async def scores(self, query: Query, documents: Sequence[str]) -> NDArray[np.float64]:
        """The model's scores of documents for a query, `(n,)`.

        Raises
        ------
        BusyError
            Too much waits.
        """
        if not documents:
            return np.empty(0)
        if isinstance(self.model, JointEncoder):
            return (await self._ask("long", [(query, document) for document in documents])).astype(np.float64)
        # The query first: what its own documents will cost is no reason to refuse it.
        (codes,), vectors = await asyncio.gather(self.query_vectors([query]), self.document_vectors(documents))
        scores = self.model.similarity(torch.from_numpy(codes)[None], torch.from_numpy(vectors))[0]
        return np.asarray(scores.double().numpy())

    async def query_vectors(self, queries: Sequence[Query]) -> Vectors:
        """Query codes `(q, m, d)` or, of a bi-encoder, vectors `(q, d)`."""
        return await self._ask("short", list(queries))

    async def document_vectors(self, texts: Sequence[str]) -> Vectors:
        """Document vectors `(n, d)`; those of texts seen before without encoding them."""
        assert self.cache is not None
        vectors, missing = self.cache.look_up(texts)
        if missing:
            vectors[missing] = await self._ask("long", [texts[place] for place in missing])
        return vectors

    def encode_for_index(self, texts: list[str], done: Callable[[int], object]) -> Vectors:
        """As `Index.add` wants it, from a thread of its own: document vectors `(n, d)`, made in the model's thread."""
        vectors = self.worker.submit("long", texts).result()
        done(len(texts))
        return vectors

    async def call(self, function: Callable[[], Any]) -> Any:
        """Do something else with the model, in its thread."""
        return await asyncio.wrap_future(self.worker.call(function))

    async def tokens(self, texts: Sequence[str]) -> int:
        """How many tokens texts have, as many as are read."""
        longest = self.model.max_seq_length

        def count() -> int:
            ids = self._counting(list(texts), truncation=longest is not None, max_length=longest, verbose=False)
            return sum(map(len, ids["input_ids"]))

        return await asyncio.get_running_loop().run_in_executor(self._counter, count)

    def close(self) -> None:
        """Work off what waits, and let go of everything."""
        self.worker.close()
        self._counter.shutdown(wait=False, cancel_futures=True)
        if self.cache is not None:
            self.cache.close()

    async def _ask(self, lane: Lane, items: list[Any]) -> Vectors:
        return await asyncio.wrap_future(self.worker.submit(lane, items))  # cancelled with the request

    def _predict(self, pairs: list[tuple[Query, str]]) -> Vectors:
        return np.asarray(self.model.predict(pairs, batch_size=32, show_progress_bar=False), dtype=np.float32)


def _read_queries(model: DualEncoder, queries: list[Query]) -> Vectors:
    """Query codes; of a few words on one thread."""
    threads = torch.get_num_threads()
    few = sum(len(query) if isinstance(query, str) else sum(map(len, query)) for query in queries) <= FEW_CHARACTERS
    if few:
        torch.set_num_threads(1)
    try:
        return encode_queries(model, queries)
    finally:
        if few:
            torch.set_num_threads(threads)
