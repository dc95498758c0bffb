"""Rankings with the reasons for each score, and rankings by several models: what the page shows."""

import asyncio
import math
import time
from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from polyencoders.encoders.protocols import QueryReading, Vectors, is_encoder, reads_queries
from polyencoders.errors import DataError
from polyencoders.index.reranking import at_least
from polyencoders.scoring import present_codes, score_all_pairs
from polyencoders.serving import explaining
from polyencoders.serving.engine import Engine
from polyencoders.serving.library import Library
from polyencoders.serving.loaded import Served
from polyencoders.serving.notes import TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import ServedNow, Texts, TheLimits
from polyencoders.serving.routes.search import SearchHit, SearchRequest, Stages, check_search, shown

router = APIRouter(tags=["explain"], responses=common.errors(503))

CANDIDATES = 50  # Documents that a model reranks when it cannot search the index itself


class ExplainRequest(SearchRequest):
    """`POST /explain`."""

    documents: Texts | None = Field(None, description="Documents to rank. Without them, the index is searched.")
    compare: bool = Field(False, description="Rank with every model of the server in turn, and give no reasons.")


class ExplainedHit(SearchHit):
    """A document with its score, and the reasons for it."""

    why: explaining.Explanation | None = Field(default=None, description="Only for poly-encoders, without `compare`.")


class Ranking(BaseModel):
    """What one model found, best first."""

    model: str
    kind: str = Field(description="The architecture.")
    looked_at: int = Field(description="Documents that were scored.")
    not_looked_at: int = Field(default=0, description="As in `/search`.")
    certified: bool | None = Field(default=None, description="As in `/search`; null: no search was made.")
    error: float | None = Field(default=None, description="As in `/search`.")
    read: int | None = Field(default=None, description="As in `/search`.")
    times: dict[str, float] = Field(description="Milliseconds of each step.")
    hits: list[ExplainedHit]


class Word(BaseModel):
    """A word of the query, or a special token."""

    text: str
    start: int = Field(description="Where it begins in the text that was read, in Unicode code points.")
    end: int
    special: bool = Field(description="A token such as [CLS], which stands for no word.")


class Reading(BaseModel):
    """The query as the model read it."""

    text: str
    was_cut: bool = Field(description="The oldest part did not fit and was not read.")
    words: list[Word]
    shares: list[list[float]] = Field(description="The fraction of each word in each code; all 0: the code is absent.")


class ExplainAnswer(BaseModel):
    """One ranking, or one of each model. The first one then holds the candidates that other models rerank."""

    rankings: list[Ranking]
    reading: Reading | None = Field(default=None, description="Only for poly-encoders, without `compare`.")


@router.post("/explain")
async def explain(request: ExplainRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> ExplainAnswer:
    """Rank documents, or search the index, and say why each hit has its score; or compare the server's models."""
    check_search(request, limits)
    request.read(notes)
    common.check_texts("documents", request.documents or [], limits)
    engine = served.engine
    source: Library | list[ExplainedHit]
    if request.documents is not None:
        if request.where is not None:
            raise DataError("where: a filter is for the index; leave out where, or leave out documents")
        numbered = enumerate(request.documents, 1)
        source = [ExplainedHit(id=str(number), score=0, text=text, metadata={}) for number, text in numbered]
    elif served.library is not None:
        source = served.library
    else:
        raise DataError("documents: give texts to rank; no index is served")
    if request.min_probability is not None and (request.compare or request.documents is not None):
        beside = "compare" if request.compare else "documents"
        raise DataError(f"min_probability: for a search as the index was tuned: leave it out, or leave out {beside}")
    if not request.compare:
        ranking = await _rank(engine, request, source, request.k, served, reranked=True)
        return ExplainAnswer(rankings=[ranking], reading=await _add_reasons(engine, request, source, ranking.hits))

    most = len(source) if isinstance(source, list) else max(request.k, CANDIDATES)
    rankings = [await _rank(engine, request, source, most, served)]
    if engine.model.architecture == "PolyEncoder" and getattr(engine.model, "m", 2) > 1:
        rankings.append(await _rank(engine, request, source, request.k, served, averaged=True))
    for other in served.others:  # one after the other: each time is a model's own
        can_search = isinstance(source, list) or other in served.searching
        theirs = source if can_search else [hit for hit in rankings[0].hits[:CANDIDATES] if hit.text]
        rankings.append(await _rank(other, request, theirs, request.k, served))
    return ExplainAnswer(rankings=rankings)


def kind_of(engine: Engine) -> str:
    """A model's architecture, in words."""
    if engine.model.architecture == "PolyEncoder":
        codes = getattr(engine.model, "m", None)
        return f"poly-encoder, {codes} codes" if codes else "poly-encoder"
    return {"BiEncoder": "bi-encoder", "ArcII": "ARC-II"}.get(engine.model.architecture, "cross-encoder")


def _temperature(engine: Engine) -> float:
    return engine.model.temperature if is_encoder(engine.model) else 1.0


async def _rank(
    engine: Engine,
    request: ExplainRequest,
    source: Library | list[ExplainedHit],
    k: int,
    served: Served,
    averaged: bool = False,
    reranked: bool = False,
) -> Ranking:
    """Search an index, or rank documents; with the codes averaged into one vector, or reranked, if asked."""
    kind = "bi-encoder: the mean of the codes" if averaged else kind_of(engine)
    ranking = Ranking(model=engine.name + ", averaged" * averaged, kind=kind, looked_at=0, times={}, hits=[])
    cache, temperature = engine.cache, _temperature(engine)
    since = time.perf_counter()

    def done(step: str) -> None:
        nonlocal since
        ranking.times[step] = round(1000 * (time.perf_counter() - since), 3)
        since = time.perf_counter()

    codes: Vectors = np.empty(0, dtype=np.float32)
    if cache is not None:
        codes = await engine.query_vectors([request.query])
        if averaged:
            codes = codes.sum(axis=1, keepdims=True) / np.float32(max(1, present_codes(codes).sum()))
        done("query")
    if not isinstance(source, list):
        stages = Stages.of(request.model_copy(update={"k": k}), served, source, rerank=reranked)
        stages.check()
        got = await stages.first(codes, temperature)
        done("search")
        if stages.reranking is not None:
            got = await stages.second(got)
            done(f"{got.read} read by {stages.reranking.engine.name}")
        ranking.looked_at, ranking.not_looked_at = got.looked_at, got.not_looked_at
        ranking.read = got.read
        ranking.certified, ranking.error = got.certified, got.error if math.isfinite(got.error) else None
        if request.min_probability is not None:
            got = at_least(got, request.min_probability)
        ranking.hits = [ExplainedHit(**shown(hit)) for hit in got]
        if request.compare:  # what the index was tuned with says nothing of other models, or of averages
            for hit in ranking.hits:
                hit.probability = None
        return ranking

    texts = [hit.text or "" for hit in source]
    if cache is None:
        scores: Any = await engine.scores(request.query, texts)
        done(f"{len(texts):,} pairs")
    else:
        before = cache.misses
        vectors = await engine.document_vectors(texts)
        missed = cache.misses - before
        done(f"{missed:,} documents" if missed else "documents known")
        scores = score_all_pairs(codes, vectors, temperature)[0]
    order = np.argsort(-scores, kind="stable")[:k]
    ranking.looked_at = len(texts)
    ranking.hits = [source[place].model_copy(update={"score": float(scores[place])}) for place in order]
    return ranking


async def _add_reasons(
    engine: Engine, request: ExplainRequest, source: Library | list[ExplainedHit], hits: list[ExplainedHit]
) -> Reading | None:
    """Put the reasons into each hit, and return what a poly-encoder read in the query; None for other models."""
    model = engine.model
    if not reads_queries(model) or not hits:
        return None
    reading: QueryReading = await engine.call(lambda: model.read_query(request.query))
    if isinstance(source, list):
        made = await engine.document_vectors([hit.text or "" for hit in hits])
        vectors = {hit.id: vector for hit, vector in zip(hits, made, strict=True)}
    else:
        vectors = await asyncio.to_thread(source.index.vectors, [hit.id for hit in hits])
        if passages := {hit.id: hit.text for hit in hits if hit.text and hit.id not in vectors}:
            stored = await asyncio.to_thread(source.index.stored, list(passages.values()))
            vectors |= {id: stored[text] for id, text in passages.items() if text in stored}
    there = [hit for hit in hits if hit.id in vectors]  # one may just have been deleted
    if there:
        stacked = np.stack([vectors[hit.id] for hit in there])
        reasons = await asyncio.to_thread(explaining.explain, reading, stacked, _temperature(engine))
        for hit, reason in zip(there, reasons, strict=True):
            hit.why = reason
    words = [Word(text=word.text, start=word.start, end=word.end, special=word.special) for word in reading.words]
    shares = reading.shares.astype(np.float64).round(6).tolist()
    return Reading(text=reading.text, was_cut=reading.was_cut, words=words, shares=shares)
