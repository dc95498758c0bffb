"""Reranking, in the formats of Cohere and of text-embeddings-inference."""

import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from polyencoders.encoders.queries import Query
from polyencoders.errors import DataError
from polyencoders.serving.loaded import Served
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import Body, QueryText, ServedNow, Text, Texts, TheLimits
from polyencoders.serving.settings import Limits

router = APIRouter(tags=["rerank"], responses=common.errors())

Positive = Annotated[int, Field(ge=1)]


async def ranked(
    served: Served, limits: Limits, query: Query, documents: list[str], top: int | None, name: str = "documents"
) -> tuple[NDArray[np.float64], list[int]]:
    """Return the scores of all documents, and the places of the `top` ones, best first; ties in the order given."""
    common.check_query(query, limits)
    common.check_texts(name, documents, limits)
    scores = await served.engine.scores(query, documents)
    return scores, np.argsort(-scores, kind="stable")[:top].tolist()


def relevance(served: Served, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores between 0 and 1, as these clients expect: probabilities where the model has a calibration.

    Without one (1 + cosine) / 2, or the sigmoid of other scores.
    """
    if served.engine.calibration is not None:
        return served.engine.calibration.probability(scores)
    if served.engine.model.cosine:
        return np.asarray(np.clip((1 + scores) / 2, 0, 1))
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -500, 500))))


# -- Cohere ------------------------------------------------------------------------------------------------------------


class CohereRequest(Body):
    """`POST /v2/rerank`."""

    query: QueryText
    documents: Texts
    model: str = Field("", description="Any name: there is one model here.")
    top_n: Positive | None = None
    max_tokens_per_doc: Positive | None = Field(None, description="Not used: the model cuts at its own length.")
    return_documents: bool = False


class CohereDocument(BaseModel):
    """A document."""

    text: str


class CohereResult(BaseModel):
    """A document's place in the request, and its relevance between 0 and 1."""

    index: int
    relevance_score: float
    document: CohereDocument | None = None


class CohereAnswer(BaseModel):
    """The best documents, best first."""

    id: str
    results: list[CohereResult]
    meta: dict[str, Any]


class CohereRequestV1(CohereRequest):
    """`POST /v1/rerank`: documents may be objects."""

    documents: Annotated[  # type: ignore[assignment]
        list[Text | dict[str, Any]],
        Field(min_length=1, fail_fast=True, description="Texts; or objects, whose `text`, or `rank_fields`, are read."),
    ]
    rank_fields: Annotated[list[Text], Field(fail_fast=True)] | None = None


@router.post("/v2/rerank", summary="As Cohere's API, version 2", response_model_exclude_none=True)
async def cohere(request: CohereRequest, served: ServedNow, limits: TheLimits) -> CohereAnswer:
    """Ranks documents for a query; called by `cohere.ClientV2.rerank`."""
    return await _cohere(request, request.documents, "2", served, limits)


@router.post("/v1/rerank", summary="As Cohere's API, version 1", response_model_exclude_none=True)
async def cohere_v1(request: CohereRequestV1, served: ServedNow, limits: TheLimits) -> CohereAnswer:
    """Ranks documents for a query; called by `cohere.Client.rerank`."""
    common.check_texts("rank_fields", request.rank_fields or [], limits)
    fields = list(dict.fromkeys(request.rank_fields or []))
    texts = [_text(place, document, fields) for place, document in enumerate(request.documents)]
    return await _cohere(request, texts, "1", served, limits)


async def _cohere(
    request: CohereRequest, documents: list[str], version: str, served: Served, limits: Limits
) -> CohereAnswer:
    scores, best = await ranked(served, limits, request.query, documents, request.top_n)
    shown = relevance(served, scores)
    return CohereAnswer(
        id=str(uuid.uuid4()),
        results=[
            CohereResult(
                index=place,
                relevance_score=float(shown[place]),
                document=CohereDocument(text=documents[place]) if request.return_documents else None,
            )
            for place in best
        ],
        meta={"api_version": {"version": version}, "billed_units": {"search_units": 1}},
    )


def _text(place: int, document: str | dict[str, Any], fields: list[str]) -> str:
    """Return the text of a document, which may be an object."""
    if isinstance(document, str):
        return document
    if fields:
        text = "\n".join(f"{name}: {document[name]}" for name in fields if name in document)
    else:
        text = document.get("text", "")
    if not isinstance(text, str) or not text:
        wanted = f"any of the rank_fields {', '.join(fields)}" if fields else "a `text`, and rank_fields are not given"
        raise DataError(f"documents.{place}: the object lacks {wanted}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"documents.{place}: a lone surrogate: expected text that can be written") from None
    return text


# -- text-embeddings-inference -----------------------------------------------------------------------------------------


class TeiRequest(Body):
    """`POST /rerank`."""

    query: QueryText
    texts: Texts
    raw_scores: bool = Field(False, description="The model's own scores, in place of ones between 0 and 1.")
    return_text: bool = False
    truncate: bool = Field(True, description="Not used: what is too long is always cut.")


class TeiRank(BaseModel):
    """A text's place in the request, and its score."""

    index: int
    score: float
    text: str | None = None


@router.post("/rerank", summary="As text-embeddings-inference", response_model_exclude_none=True)
async def tei(request: TeiRequest, served: ServedNow, limits: TheLimits) -> list[TeiRank]:
    """Ranks texts for a query, best first."""
    scores, best = await ranked(served, limits, request.query, request.texts, None, "texts")
    shown = scores if request.raw_scores else relevance(served, scores)
    return [
        TeiRank(index=place, score=float(shown[place]), text=request.texts[place] if request.return_text else None)
        for place in best
    ]
