"""Health, information, metrics, and reloading."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from polyencoders.serving.loaded import Current
from polyencoders.serving.routes.common import ServedNow, TheLimits, errors

router = APIRouter(tags=["operations"])


class Status(BaseModel):
    """The state of the server."""

    status: Literal["ok", "ready", "loading", "restoring", "stopping"]


@router.get("/health")
async def health() -> Status:
    """Answers while the process lives; needs no key."""
    return Status(status="ok")


@router.get("/ready", responses={503: {"model": Status, "description": "It is not ready."}})
async def ready(request: Request, response: Response) -> Status:
    """Answers 200 if the model is loaded and the whole index can be searched; needs no key."""
    with request.app.state.current.use() as served:
        whole = served.whole
    if whole and not request.app.state.stopping:
        return Status(status="ready")
    response.status_code = 503
    return Status(status="stopping" if request.app.state.stopping else "restoring")


class ServedIndex(BaseModel):
    """The index that is searched."""

    name: str
    documents: int
    version: int
    metadata: dict[str, str]


class Info(BaseModel):
    """What is served, and the limits of requests."""

    version: str
    model_id: str
    architecture: str
    dimension: int | None
    score: Literal["cosine", "raw"]
    generation: int
    index: ServedIndex | None
    reranker: str | None
    limits: dict[str, float]


@router.get("/info", responses=errors())
async def info(request: Request, served: ServedNow, limits: TheLimits) -> Info:
    """Describes the model, the index and the limits."""
    index = None
    if served.library is not None:
        about = await asyncio.to_thread(served.library.info)
        index = ServedIndex(
            name=served.library.name, documents=about.documents, version=about.version, metadata=about.metadata
        )
    return Info(
        version=request.app.version,
        model_id=served.engine.name,
        architecture=served.engine.model.architecture,
        dimension=served.engine.cache.dimension if served.engine.cache is not None else None,
        score="cosine" if served.engine.model.cosine else "raw",
        generation=request.app.state.current.generation,
        index=index,
        reranker=served.reranking.engine.name if served.reranking is not None else None,
        limits=vars(limits),
    )


@router.get("/metrics", response_class=Response, responses=errors())
async def metrics(request: Request) -> Response:
    """Returns metrics for Prometheus."""
    state = request.app.state
    return Response(state.metrics.text(state.current, state.limiter), media_type=CONTENT_TYPE_LATEST)


class Reloaded(BaseModel):
    """What is served now."""

    generation: int
    model_id: str
    documents: int | None


@router.post("/reload", responses=errors(409))
async def reload(request: Request) -> Reloaded:
    """Loads the model and the index again. Requests use the old until the new is complete."""
    current: Current = request.app.state.current
    await asyncio.to_thread(current.reload)
    with current.use() as served:
        return Reloaded(
            generation=current.generation,
            model_id=served.engine.name,
            documents=len(served.library.index) if served.library is not None else None,
        )
