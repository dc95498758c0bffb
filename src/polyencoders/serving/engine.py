"""A model that many requests use at once, with each document encoded once."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders import DocumentCache, Encoder, PairScorer, Query, Vectors, distinct
from polyencoders.encoders.calibration import Calibration
from polyencoders.encoders.protocols import Token, is_encoder, is_pair_scorer
from polyencoders.scoring import score_all_pairs
from polyencoders.serving.batching import Lane, Watch, Work, Worker, ignore, pace_of
from polyencoders.serving.settings import Settings
from polyencoders.serving.traces import span

COUNTED = 200_000  # Texts whose number of tokens is kept
AT_ONCE = 100_000  # Characters that are tokenised in one go, so that others need not wait long
REST = 200
"""Characters beyond what a model reads that cost as much as a token: they are tokenised, and cut off."""


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
        self.codes = 0  # Vectors of a query; 0 for a model that reads pairs
        text = "How long does it take to read this? " * 8
        tokens = model.count_tokens([text])[0]  # makes the tokeniser that counts, before another thread uses the model
        if is_encoder(model):
            self.cache = DocumentCache(model, settings.cache, settings.cache_bytes, settings.bf16)
            if before is not None and before.cache is not None:
                self.cache.take_over(before.cache)
            read, cache = model.document_encoder(self.cache.bf16), self.cache
            short, long = model.encode_queries, lambda texts: cache.fill(texts, encode=read)
            self.codes = model.encode_queries([text]).shape[1]
            paces: dict[Lane, float] = {
                "short": pace_of(short, [text], tokens),
                "long": pace_of(read, [text] * 8, 8 * tokens),
            }
        else:
            assert is_pair_scorer(model)
            short = long = model.score_pairs
            pairs = [(text, f"{number} {text}") for number in range(8)]
            paces = {"long": pace_of(long, pairs, 16 * tokens)}
        self._counted: dict[int, int] = {}
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

    async def scores_of_pairs(self, pairs: Sequence[tuple[Query, str]]) -> NDArray[np.float64]:
        """Return the model's score of each query with its own document, `(n,)`."""
        if not pairs:
            return np.empty(0)
        if not is_encoder(self.model):
            read, places = distinct(pairs)
            return (await self._ask("long", read))[places].astype(np.float64)
        queries, first = distinct([query for query, _ in pairs])
        texts, second = distinct([text for _, text in pairs])
        codes, vectors = await asyncio.gather(self.query_vectors(queries), self.document_vectors(texts))
        temperature = self.model.temperature
        return np.array(
            [
                score_all_pairs(codes[one : one + 1], vectors[other : other + 1], temperature)[0, 0]
                for one, other in zip(first, second, strict=True)
            ],
            dtype=np.float64,
        )

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
        vectors = self.worker.submit("long", texts, self._costs(texts)).result()
        done(len(texts))
        return vectors

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the model's thread."""
        return await asyncio.wrap_future(self.worker.call(function))

    async def tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, as many as are read."""
        counted: list[int] = []
        for some in _slices(texts):
            counted += await asyncio.get_running_loop().run_in_executor(self._counter, self._count, some)
        return counted

    async def tokens_of(self, texts: Sequence[str]) -> list[list[Token]]:
        """Return all tokens of each text, which take a hundred times its memory: ask for little at a time."""
        found: list[list[Token]] = []
        for some in _slices(texts):
            found += await asyncio.get_running_loop().run_in_executor(self._counter, self.model.tokens_of, some)
        return found

    def score_pairs(self, pairs: Sequence[tuple[Query, str]]) -> Vectors:
        """Score pairs in the model's own thread, called from another one."""
        return self.worker.submit("long", list(pairs), self._costs(pairs)).result()

    def close(self) -> None:
        """Finish the work that waits, and release everything."""
        self.worker.close()
        self._counter.shutdown(wait=False, cancel_futures=True)
        if self.cache is not None:
            self.cache.close()

    async def _ask(self, lane: Lane, items: list[Any]) -> Vectors:
        await self.tokens([text for item in items for text in _texts(item)])  # kept for `_costs`
        with span("encode", lane=lane, texts=len(items)):
            return await asyncio.wrap_future(self.worker.submit(lane, items, self._costs(items)))  # cancelled with it

    def _count(self, texts: Sequence[str]) -> list[int]:
        keys = [hash(text) for text in texts]
        known = self._counted  # another thread may begin a new one
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        counted = self.model.count_tokens(list(missing.values())) if missing else []
        known.update(zip(missing, counted, strict=True))
        if len(known) > COUNTED:
            self._counted = {}
        return [known[key] for key in keys]

    def _costs(self, items: Sequence[Any]) -> list[int]:
        """Return what items cost, in tokens."""
        texts = [_texts(item) for item in items]
        read = iter(self._count([text for some in texts for text in some]))
        return [sum(_cost(text, next(read)) for text in some) for some in texts]


def _cost(text: str, read: int) -> int:
    """Return what a text costs of which so many tokens are read, in tokens."""
    return read + max(0, len(text) - 8 * read) // REST


def _texts(item: Any) -> list[str]:
    """Return the texts in an item: a text, the turns of a conversation, or a pair."""
    return [item] if isinstance(item, str) else [text for part in item for text in _texts(part)]


def _slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts a few at a time."""
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
