"""Searches the index, and changes it."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from polyencoders.encoders import Reranker, Vectors, Words
from polyencoders.encoders.calibration import Calibration
from polyencoders.index import Answer, IndexHit
from polyencoders.index.reranking import at_least
from polyencoders.serving.errors import TooLargeError
from polyencoders.serving.library import Library
from polyencoders.serving.loaded import Served
from polyencoders.serving.notes import TheNotes
from polyencoders.serving.reranking import Reranking
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import Body, QueryText, ServedNow, Text, TheLimits, check_length, check_texts
from polyencoders.serving.settings import Limits
from polyencoders.serving.traces import span

router = APIRouter(tags=["index"], responses=common.errors(404, 503))

DEEPEST = 16  # Levels of nested lists and objects in metadata


def _library(served: Served) -> Library:
    if served.library is None:
        raise HTTPException(404, "no index is served: start the server with --index PATH")
    return served.library


class SearchRequest(Body):
    """`POST /search`."""

    query: QueryText
    k: int = Field(10, ge=1, description="How many hits.")
    where: Text | None = Field(None, description="An SQL condition on the metadata: `lang = 'en' AND year >= 2020`.")
    mode: Literal["exact", "fast"] = Field(
        "exact", description="`exact`: the best, proven; `fast`: searches where the best probably are."
    )
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of documents that `fast` searches; default 0.07.",
    )

    words: bool | Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="Whether the query's words count beside its vectors (BM25), or how much; default: as tuned."
    )
    rerank: bool = Field(True, description="Whether the server's reranker, where it has one, reads the best hits.")
    rerank_top: int | None = Field(None, ge=1, description="How many it reads; default, and the most: the server's.")
    rerank_budget: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Milliseconds in which it reads as many as fit; the most: the server's.",
    )
    min_probability: float | None = Field(
        None, ge=0, le=1, description="Less probable hits are left out; needs an index that was tuned."
    )

    @model_validator(mode="after")
    def _share_is_for_fast(self) -> "SearchRequest":
        if self.share is not None and self.mode != "fast":
            raise ValueError("share is for mode 'fast'")
        return self


class SearchHit(BaseModel):
    """A document that was found."""

    id: str
    score: float
    text: str | None
    metadata: dict[str, Any]
    probability: float | None = Field(
        default=None, description="That it is right; null where the index was not tuned for such a search."
    )


class SearchAnswer(BaseModel):
    """Hits, best first, and bounds for all other documents."""

    hits: list[SearchHit]
    certified: bool = Field(description="Proven: no other document scores above the last hit.")
    error: float | None = Field(description="The most by which one could; null: not known.")
    looked_at: int = Field(description="Documents that were searched.")
    not_looked_at: int = Field(
        description="Documents on lost machines, any of which may be better; above 0 only with `--partial`."
    )
    read: int | None = Field(
        description="Hits that the reranker read; null without one. What is proven is the search before it."
    )
    version: int = Field(description="Of the index.")
    encoding_ms: float
    searching_ms: float
    reranking_ms: float


@router.post("/search")
async def search(request: SearchRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> SearchAnswer:
    """Returns the best documents of the index for a query."""
    library = _library(served)
    check_search(request, limits)
    request.read(notes)
    asked = Stages.of(request, served, library)
    asked.check()
    started = time.perf_counter()
    codes = await served.engine.query_vectors([request.query])
    encoded = time.perf_counter()
    answer = await asked.first(codes)
    searched = time.perf_counter()
    answer = await asked.second(answer)
    if request.min_probability is not None:
        answer = at_least(answer, request.min_probability)
    return SearchAnswer(
        hits=[SearchHit(**shown(hit)) for hit in answer],
        certified=answer.certified,
        error=answer.error if math.isfinite(answer.error) else None,
        looked_at=answer.looked_at,
        not_looked_at=answer.not_looked_at,
        read=answer.read,
        version=answer.version,
        encoding_ms=round(1000 * (encoded - started), 3),
        searching_ms=round(1000 * (searched - encoded), 3),
        reranking_ms=round(1000 * (time.perf_counter() - searched), 3),
    )


def check_search(request: SearchRequest, limits: Limits) -> None:
    """Raise `TooLargeError` if a search asks for too much."""
    common.check_query(request.query, limits)
    for name, number in (("k", request.k), ("rerank_top", request.rerank_top or 0)):
        if number > limits.hits:
            raise TooLargeError(f"{name}: {number:,} hits, the most is {limits.hits:,}")
    check_length("where", request.where or "", limits)


@dataclass(frozen=True)
class Stages:
    """The two stages of a search: by vectors and words, and by the reranker where there is one."""

    request: SearchRequest
    library: Library
    reranking: Reranking | None
    reranker: Reranker | None  # With the settings of the request
    words: Words | None

    @classmethod
    def of(cls, request: SearchRequest, served: Served, library: Library, rerank: bool = True) -> "Stages":
        """Return what a request asks for; without a reranker if it is not to `rerank`."""
        reranking = served.reranking if rerank and request.rerank else None
        reranker = None
        if reranking is not None:  # a request may ask for less than the server's settings, not for more
            own = reranking.reranker
            budgets = [given for given in (own.budget, request.rerank_budget) if given is not None]
            reranker = own.but(top=min(own.top, request.rerank_top or own.top), budget=min(budgets, default=None))
        words = request.words if request.words is not None else served.words
        return cls(request, library, reranking, reranker, library.index.words(words))

    def check(self) -> Calibration | None:
        """Return what makes probabilities; IndexingError where they are asked for and not known."""
        return self.library.index.calibration(self.reranker, self.words, self.request.min_probability)

    async def first(self, codes: Vectors, temperature: float | None = None) -> Answer:
        """Search by query codes `(1, m, d)`, and by words."""
        request = self.request
        depth = request.k if self.reranker is None else max(request.k, self.reranker.top)
        with span("search", mode=request.mode, k=depth):
            (answer,) = await asyncio.to_thread(
                self.library.index.search,
                *(codes, depth, request.where, request.mode, request.share, temperature),
                words=self.words or False,
                texts=[request.query],
                rerank=False,
            )
        found: Answer = answer
        return found

    async def second(self, answer: Answer) -> Answer:
        """Have the reranker read the best."""
        if self.reranker is None or self.reranking is None:
            return answer
        with span("rerank", top=self.reranker.top):
            return await self.reranking.rerank(answer, self.request.query, self.request.k, self.reranker, self.check())


def _usable(value: Any, depth: int = 0) -> Any:
    """Return a value of metadata if it can be stored: numbers must be finite, nesting not too deep."""
    if depth > DEEPEST:
        raise ValueError(f"metadata nested deeper than {DEEPEST} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number of the metadata is not finite; write null")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise ValueError("a number of the metadata has more than 64 bits; write it as a text")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _usable(part, depth + 1)
    return value


class NewDocument(BaseModel):
    """A document to add: text, id, and metadata under any other names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_usable)]]

    text: Text
    id: Text | None = Field(None, description="Without one, a hash of the contents is the id.")


class AddRequest(Body):
    """`POST /documents`."""

    documents: Annotated[list[NewDocument], Field(min_length=1, fail_fast=True)]


class AddAnswer(BaseModel):
    """What was done, and is on disk."""

    added: int
    replaced: int
    unchanged: int
    version: int


@router.post("/documents", responses=common.errors(404, 503, 507))
async def add(request: AddRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> AddAnswer:
    """Adds documents, or replaces those with the same ids. When it answers, they are on disk and are found."""
    request.read(notes)
    library = _library(served)
    check_texts("documents", [document.text for document in request.documents], limits)
    names = {name for document in request.documents for name in document.model_extra or ()}
    if len(names) > limits.names:
        raise TooLargeError(f"documents: {len(names):,} names of metadata, the most in one request is {limits.names:,}")
    rows = [document.model_dump(exclude_none=True) for document in request.documents]
    done, version = await library.add(rows, served.engine.encode_for_index)
    return AddAnswer(added=done.added, replaced=done.replaced, unchanged=done.unchanged, version=version)


class DeleteRequest(Body):
    """`POST /documents/delete`: by ids, or by a condition."""

    ids: Annotated[list[Text], Field(fail_fast=True)] | None = None
    where: Text | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "DeleteRequest":
        if (self.ids is None) == (self.where is None):
            raise ValueError("give ids, or where: one of the two")
        return self


class DeleteAnswer(BaseModel):
    """How many documents were deleted."""

    deleted: int
    version: int


@router.post("/documents/delete", responses=common.errors(404, 503, 507))
async def delete(request: DeleteRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> DeleteAnswer:
    """Deletes documents by id or by a condition. Ids that are not there are ignored."""
    request.read(notes)
    library = _library(served)
    check_texts("ids", request.ids or [], limits)
    check_length("where", request.where or "", limits)
    number, version = await library.delete(request.ids, request.where)
    return DeleteAnswer(deleted=number, version=version)


@router.get("/documents/{id:path}")
async def get(id: str, served: ServedNow) -> dict[str, Any]:
    """Returns a document by its id; of one that is kept as passages, these in their order, in `passages`."""
    found = await asyncio.to_thread(_library(served).index.get, [id])
    if not found:
        raise HTTPException(404, "there is no document with this id")
    if found[0]["id"] != id:
        return {"id": id, "passages": [_plain(passage) for passage in found]}
    return _plain(found[0])


def shown(hit: IndexHit) -> dict[str, Any]:
    """Return the fields of a `SearchHit`."""
    return {**hit._asdict(), "metadata": _plain(hit.metadata)}


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return values that JSON has: dates as texts, and no number that is none."""

    def value(given: Any) -> Any:
        if isinstance(given, float):
            return given if math.isfinite(given) else None
        return given if given is None or isinstance(given, bool | int | str | list | dict) else str(given)

    return {name: value(given) for name, given in metadata.items()}
