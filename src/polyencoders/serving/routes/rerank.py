"""Reranking, by content and not by path: how a client names the documents decides what it reads of the answer.

Cohere, Jina, Voyage, vLLM, Infinity and Weaviate send `documents`, text-embeddings-inference `texts`, NVIDIA `passages`
and mixedbread `input`, each to any of `PATHS`.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from polyencoders.encoders.protocols import is_encoder
from polyencoders.encoders.queries import Query
from polyencoders.serving.loaded import Served
from polyencoders.serving.notes import Notes, TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import QueryText, ServedNow, Text, TheLimits
from polyencoders.serving.routes.texts import AS_READ, Cutting, Items, OfTexts, say_blank, text_of
from polyencoders.serving.settings import Limits

router = APIRouter(tags=["rerank"], responses=common.errors())

PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/v1/reranks", "/v1/ranking")
NAMES = ("documents", "texts", "passages", "input")
"""What clients call the documents."""
LOWEST = -100.0  # Score of a blank document, where scores are no cosines: its sigmoid is 0

Positive = Annotated[int, Field(ge=1)]


def _plain(query: Any) -> Any:
    return query["text"] if isinstance(query, dict) and "text" in query else query


class RerankRequest(OfTexts):
    """Ranks documents for a query. The documents may also be called `texts`, `passages` or `input`."""

    query: Annotated[QueryText, BeforeValidator(_plain)]
    documents: Items = Field(validation_alias=AliasChoices(*NAMES))
    top_n: Positive | None = Field(
        None, validation_alias=AliasChoices("top_n", "top_k"), description="How many; also `top_k`."
    )
    return_documents: bool = Field(
        False,
        validation_alias=AliasChoices("return_documents", "return_text", "return_input"),
        description="Whether the texts are in the answer; also `return_text`, `return_input`.",
    )
    raw_scores: bool = Field(False, description="The model's own scores, in place of ones between 0 and 1.")
    rank_fields: Annotated[list[Text], Field(fail_fast=True)] = Field(
        [], description="Which fields of documents that are objects are read; without them their `text`."
    )

    @property
    def name(self) -> str:
        """What the client calls the documents."""
        return next(name for name in NAMES if self.has(name))


async def scored(
    served: Served,
    limits: Limits,
    notes: Notes,
    queries: Sequence[Query],
    texts: list[str],
    name: str = "documents",
    cutting: Cutting = AS_READ,
) -> NDArray[np.float64]:
    """Return the model's scores of texts, `(n,)`, for one query or each for its own; blank ones get the lowest."""
    for query in queries:
        common.check_query(query, limits)
    common.check_texts(name, texts, limits)
    blank = say_blank(name, texts, notes, "so it gets the lowest score")
    engine = served.engine
    beside = [] if is_encoder(engine.model) else [sum(await engine.tokens(turns_of(query))) for query in queries]
    texts = await cutting.cut(name, texts, engine, beside * len(texts) if len(queries) == 1 else beside)
    read = np.setdiff1d(np.arange(len(texts)), blank)
    scores = np.full(len(texts), -1.0 if engine.model.cosine else LOWEST)
    if len(queries) == 1:
        scores[read] = await engine.scores(queries[0], [texts[place] for place in read])
    elif len(read):
        scores[read] = await engine.scores_of_pairs([(queries[place], texts[place]) for place in read])
    scores[blank] = np.minimum(scores[blank], scores.min())
    return scores


def turns_of(query: Query) -> list[str]:
    """Return the turns of a query; a text is one."""
    return [query] if isinstance(query, str) else list(query)


def relevance(served: Served, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores between 0 and 1, as these clients expect: probabilities where the model has a calibration.

    Without one (1 + cosine) / 2, or the sigmoid of other scores.
    """
    if served.engine.calibration is not None:
        return served.engine.calibration.probability(scores)
    if served.engine.model.cosine:
        return np.asarray(np.clip((1 + scores) / 2, 0, 1))
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -500, 500))))


# -- what each client reads --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """A ranking, and what an answer says of it."""

    request: RerankRequest
    texts: list[str]
    best: list[int]  # Places of the documents that are shown, best first
    raw: NDArray[np.float64]
    shown: NDArray[np.float64]
    tokens: int
    model: str
    notes: Notes
    version: str  # Of Cohere's API: "1" or "2"

    def rows(self, score: str, text: str, wrapped: bool = False, raw: bool = False) -> list[dict[str, Any]]:
        """Return the best documents under the names that a client has for a score and a text."""
        scores = self.raw if raw else self.shown
        rows: list[dict[str, Any]] = [{"index": place, score: float(scores[place])} for place in self.best]
        if self.request.return_documents:
            for row in rows:
                found = self.texts[row["index"]]
                row[text] = {"text": found} if wrapped else found
        return rows

    @property
    def usage(self) -> dict[str, int]:
        """Tokens that were read."""
        return {"prompt_tokens": self.tokens, "completion_tokens": 0, "total_tokens": self.tokens}


class UsageOfTokens(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class Result(BaseModel):
    """A document's place in the request, and its relevance between 0 and 1."""

    index: int
    relevance_score: float
    document: Any = Field(None, description='With `return_documents`: `{"text": ...}` in `results`, a text in `data`.')


class RerankAnswer(BaseModel):
    """The best documents, best first, for clients that send `documents`."""

    id: str
    object: str
    model: str
    results: list[Result] = Field(description="Read by clients of Cohere, Jina, vLLM and Infinity.")
    data: list[Result] = Field(description="The same, read by clients of Voyage.")
    meta: dict[str, Any] = Field(description="Cohere's: the version of the API, and `warnings`.")
    usage: UsageOfTokens
    scores: list[dict[str, Any]] | None = Field(
        None, description="Weaviate's: each document with its score, in the order given. For requests as its own."
    )


def _general(ranked: Ranked) -> dict[str, Any]:
    meta: dict[str, Any] = {"api_version": {"version": ranked.version}, "billed_units": {"search_units": 1}}
    if ranked.notes:
        meta["warnings"] = list(ranked.notes)
    answer = {
        "id": str(uuid.uuid4()),
        "object": "rerank",
        "model": ranked.model,
        "results": ranked.rows("relevance_score", "document", wrapped=True),
        "data": ranked.rows("relevance_score", "document"),
        "meta": meta,
        "usage": ranked.usage,
    }
    if ranked.request.model_fields_set == {"query", "documents"}:  # as Weaviate asks: it names no model
        pairs = zip(ranked.texts, ranked.shown.tolist(), strict=True)
        answer["scores"] = [{"document": text, "score": score} for text, score in pairs]
    return answer


class TeiRank(BaseModel):
    """A text's place in the request, and its score."""

    index: int
    score: float
    text: str | None = None


def _tei(ranked: Ranked) -> list[dict[str, Any]]:
    return ranked.rows("score", "text", raw=ranked.request.raw_scores)


def _nvidia(ranked: Ranked) -> dict[str, Any]:
    return {"rankings": ranked.rows("logit", "text", raw=True), "usage": ranked.usage}


def _mixedbread(ranked: Ranked) -> dict[str, Any]:
    rows = [{**row, "object": "rank_result"} for row in ranked.rows("score", "input")]
    more = {"top_k": len(rows), "return_input": ranked.request.return_documents}
    return {"object": "list", "model": ranked.model, "data": rows, "usage": ranked.usage, **more}


ANSWERS: dict[str, Callable[[Ranked], Any]] = {
    "documents": _general,
    "texts": _tei,
    "passages": _nvidia,
    "input": _mixedbread,
}
"""By what the client calls the documents."""


async def rerank(
    body: RerankRequest, request: Request, served: ServedNow, limits: TheLimits, notes: TheNotes
) -> JSONResponse:
    """Ranks documents for a query, best first; equal scores in the order given.

    Documents called `documents` are answered as by Cohere, Jina and Voyage together, `texts` by a list as from
    text-embeddings-inference, `passages` as by NVIDIA, and `input` as by mixedbread.
    """
    body.read(notes)
    common.check_number(body.name, body.documents, limits)
    common.check_texts("rank_fields", body.rank_fields, limits)
    fields = list(dict.fromkeys(body.rank_fields))
    texts = [text_of(item, f"{body.name}.{place}", fields) for place, item in enumerate(body.documents)]
    raw = await scored(served, limits, notes, [body.query], texts, body.name, body.cutting())
    shown = raw if body.raw_scores else relevance(served, raw)
    ranked = Ranked(
        body,
        texts,
        np.argsort(-raw, kind="stable")[: body.top_n].tolist(),
        raw,
        shown,
        sum(await served.engine.tokens([*turns_of(body.query), *texts])),
        served.engine.name,
        notes,
        request.url.path[2] if request.url.path.startswith(("/v1", "/v2")) else "2",
    )
    return JSONResponse(ANSWERS[body.name](ranked))


for _path in PATHS:
    router.add_api_route(
        _path, rerank, methods=["POST"], response_model=RerankAnswer | list[TeiRank] | dict[str, Any], name=_path[1:]
    )
