"""Health, information, metrics, and reloading."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from polyencoders.encoders.protocols import is_encoder
from polyencoders.serving.batching import LONG_AT_ONCE
from polyencoders.serving.loaded import Current
from polyencoders.serving.routes.common import ServedNow, TheLimits, errors

router = APIRouter(tags=["operations"])


class Status(BaseModel):
    """The state of the server."""

    status: Literal["ok", "ready", "loading", "restoring", "stopping"]


@router.get("/.well-known/live", include_in_schema=False)
@router.get("/health")
async def health() -> Status:
    """Answers while the process lives; needs no key."""
    return Status(status="ok")


@router.get("/.well-known/ready", include_in_schema=False)
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
    """What is served, and the limits of requests; also under the names that text-embeddings-inference has for it."""

    version: str
    model_id: str
    model_sha: str | None = Field(description="The fingerprint of what makes its vectors, or scores its pairs.")
    model_dtype: str
    model_type: dict[str, Any] = Field(description="What it can do, first what it is best at.")
    max_input_length: int | None = Field(description="Tokens of a text that are read; null: all.")
    max_client_batch_size: int = Field(description="The most texts of a request.")
    max_concurrent_requests: int
    max_batch_tokens: int
    max_batch_requests: int | None = None
    auto_truncate: bool = True
    tokenization_workers: int = 1
    query_codes: int = Field(description="Vectors of a query; 0 for a model that reads pairs.")
    architecture: str
    dimension: int | None
    score: Literal["cosine", "raw"]
    generation: int
    index: ServedIndex | None
    reranker: str | None
    limits: dict[str, float]


@router.get("/meta", include_in_schema=False)
@router.get("/info", responses=errors())
async def info(request: Request, served: ServedNow, limits: TheLimits) -> Info:
    """Describes the model, the index and the limits."""
    index = None
    if served.library is not None:
        about = await asyncio.to_thread(served.library.info)
        index = ServedIndex(
            name=served.library.name, documents=about.documents, version=about.version, metadata=about.metadata
        )
    engine = served.engine
    model = engine.model
    label = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    reranker, embedding = {"reranker": label}, {"embedding": {"pooling": "mean"}}
    return Info(
        version=request.app.version,
        model_id=engine.name,
        model_sha=model.fingerprints.documents if is_encoder(model) else getattr(model, "fingerprint", None),
        model_dtype="bfloat16" if engine.cache is not None and engine.cache.bf16 else "float32",
        # Some clients take the first for all that it can do.
        model_type={**embedding, **reranker}
        if engine.codes == 1
        else {**reranker, **(embedding if engine.codes else {})},
        max_input_length=model.longest,
        max_client_batch_size=limits.documents,
        max_concurrent_requests=limits.requests,
        max_batch_tokens=LONG_AT_ONCE,
        query_codes=engine.codes,
        architecture=model.architecture,
        dimension=engine.cache.dimension if engine.cache is not None else None,
        score="cosine" if model.cosine else "raw",
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
