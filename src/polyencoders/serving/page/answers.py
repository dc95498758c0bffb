"""A question as it is asked on the page, and what one model finds for it, with the reasons of a poly-encoder.

Knows what is served; nothing of Gradio or of HTML.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.encoders.protocols import QueryReading
from polyencoders.encoders.queries import Query
from polyencoders.errors import DataError
from polyencoders.models import PolyEncoder
from polyencoders.models.joint import JointEncoder
from polyencoders.models.query_reading import read_query
from polyencoders.serving.engine import Engine, Vectors
from polyencoders.serving.explaining import Explanation, explain
from polyencoders.serving.library import Library
from polyencoders.serving.refusals import TooLargeError
from polyencoders.serving.routes.common import check_query, check_texts
from polyencoders.serving.served import Served
from polyencoders.serving.settings import Limits


@dataclass(frozen=True)
class Question:
    """What was typed and chosen."""

    query: Query
    k: int = 10
    mode: Literal["exact", "fast"] = "exact"
    where: str | None = None
    documents: tuple[str, ...] = ()
    """What is ranked, where no index is served."""

    def check(self, limits: Limits, has_index: bool) -> None:
        """Refuse what the API would refuse.

        Raises
        ------
        DataError
            There is nothing to look for, or nothing to rank; or too much of it.
        """
        check_query(self.query, limits)
        if not 1 <= self.k <= limits.hits:
            raise TooLargeError(f"Hits can be from 1 to {limits.hits:,}, not {self.k:,}.")
        if not has_index:
            if not self.documents:
                raise DataError("Type documents to rank, one a line.")
            check_texts("documents", self.documents, limits)


@dataclass(frozen=True)
class Found:
    """A document of a ranking."""

    key: str
    """Its id in the index, or the number of its line."""
    text: str | None
    score: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    why: Explanation | None = None


@dataclass(frozen=True)
class Ranking:
    """What one model found, best first, what it did for that, and the milliseconds it took."""

    name: str
    kind: str
    did: str
    times: dict[str, float]
    found: list[Found]
    proven: str = ""
    """What is known of all other documents."""
    reading: QueryReading | None = None
    """What a poly-encoder read in the query."""


class Clock:
    """Milliseconds, by what they went into."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._since = time.perf_counter()

    def stop(self, what: str) -> None:
        """What was done since the last stop."""
        now = time.perf_counter()
        self.times[what] = 1000 * (now - self._since)
        self._since = now


def kind_of(engine: Engine) -> str:
    """A model's architecture, in words."""
    if isinstance(engine.model, PolyEncoder):
        return f"poly-encoder, {engine.model.query_codes.number_of_codes} codes"
    names = {"BiEncoder": "bi-encoder", "ArcII": "ARC-II"}
    return names.get(engine.architecture, "cross-encoder")


async def answer(served: Served, question: Question) -> Ranking:
    """What is found for a question; by a poly-encoder with the reasons.

    Raises
    ------
    BusyError
        Too much waits.
    DataError, IndexingError
        The question cannot be answered as it is.
    """
    engine, library = served.engine, served.library
    if library is not None:
        ranking, _ = await search(engine, library, question)
    else:
        ranking = await rerank(engine, question.query, given(question))
        ranking = replace(ranking, found=ranking.found[: question.k])
    if not isinstance(engine.model, PolyEncoder) or not ranking.found:
        return ranking
    return await _with_reasons(engine, library, question.query, ranking)


async def search(engine: Engine, library: Library, question: Question) -> tuple[Ranking, Vectors]:
    """Search the index with a model whose document vectors it holds; gives the query codes as well."""
    clock = Clock()
    codes = await engine.query_vectors([question.query])
    clock.stop("query")
    temperature = engine.model.temperature if isinstance(engine.model, PolyEncoder) else 1.0
    empty = Ranking(engine.name, kind_of(engine), "", {}, [])
    return await look_up(library, codes, question, empty, clock, temperature), codes


async def look_up(
    library: Library, codes: Vectors, question: Question, ranking: Ranking, clock: Clock, temperature: float
) -> Ranking:
    """A ranking, filled with what query codes find in the index."""
    (got,) = await asyncio.to_thread(
        library.search, codes, question.k, question.where, question.mode, None, temperature
    )
    clock.stop("search")
    if got.not_looked_at:
        proven = f"incomplete: {got.not_looked_at:,} documents are on machines that are lost"
    elif got.certified:
        proven = "proven: no other document scores higher"
    elif math.isfinite(got.error):
        proven = f"not proven: another document could score higher, by {got.error:.3f} at most"
    else:
        proven = "not proven to be the best"
    return replace(
        ranking,
        did=f"searched {got.looked_at:,} documents" + (" that the filter finds" if question.where else ""),
        times=clock.times,
        found=[Found(hit.id, hit.text, hit.score, hit.metadata) for hit in got],
        proven=proven,
    )


async def rerank(engine: Engine, query: Query, documents: list[Found]) -> Ranking:
    """Rank documents that have a text with any model; those it has read before need not be read again by all."""
    documents = [one for one in documents if one.text]
    texts = [one.text or "" for one in documents]
    clock = Clock()
    if not texts:
        scores: NDArray[np.float64] = np.empty(0)
    elif not isinstance(engine.model, JointEncoder) and engine.cache is not None:
        codes = await engine.query_vectors([query])
        clock.stop("query")
        before = engine.cache.misses
        vectors = await engine.document_vectors(texts)
        clock.stop(f"{engine.cache.misses - before:,} documents" if engine.cache.misses > before else "documents known")
        scores = engine.model.similarity(torch.from_numpy(codes), torch.from_numpy(vectors))[0].double().numpy()
    else:
        scores = await engine.scores(query, texts)
        clock.stop(f"{len(texts):,} pairs")
    order = np.argsort(-scores, kind="stable")
    found = [replace(documents[place], score=float(scores[place]), why=None) for place in order]
    return Ranking(engine.name, kind_of(engine), f"ranked the {len(texts):,} documents given", clock.times, found)


def given(question: Question) -> list[Found]:
    """The documents that came with a question."""
    return [Found(str(number), text) for number, text in enumerate(question.documents, 1)]


async def _with_reasons(engine: Engine, library: Library | None, query: Query, ranking: Ranking) -> Ranking:
    """The same with what the poly-encoder read in the query, and why each document has its score."""
    model = engine.model
    assert isinstance(model, PolyEncoder)
    reading = await engine.call(lambda: read_query(model, query))
    if library is not None:
        vectors = await asyncio.to_thread(library.vectors, [one.key for one in ranking.found])
    else:
        made = await engine.document_vectors([one.text or "" for one in ranking.found])
        vectors = {one.key: vector for one, vector in zip(ranking.found, made, strict=True)}
    there = [one.key for one in ranking.found if one.key in vectors]  # one may just have been deleted
    if there:
        reasons = explain(reading, np.stack([vectors[key] for key in there]), model.temperature)
        whys = dict(zip(there, reasons, strict=True))
        ranking = replace(ranking, found=[replace(one, why=whys.get(one.key)) for one in ranking.found])
    return replace(ranking, reading=reading)
