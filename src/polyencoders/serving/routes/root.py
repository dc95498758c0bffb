"""`POST /`, as Hugging Face's clients ask: what is sent says whether to rerank, compare or embed."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Discriminator, Tag

from polyencoders.serving.notes import TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import ServedNow, TheLimits
from polyencoders.serving.routes.embed import EmbedRequest, embed
from polyencoders.serving.routes.rerank import RerankRequest, rerank
from polyencoders.serving.routes.score import SimilarityRequest, similarity

router = APIRouter(tags=["rerank"], responses=common.errors(404))


def _kind(body: Any) -> str:
    if isinstance(body, dict) and body.get("query") is not None:
        return "rerank"
    return "similarity" if isinstance(body, dict) and isinstance(body.get("inputs"), dict) else "embed"


@router.post("/", response_model=Any)
async def root(
    body: Annotated[
        Annotated[RerankRequest, Tag("rerank")]
        | Annotated[SimilarityRequest, Tag("similarity")]
        | Annotated[EmbedRequest, Tag("embed")],
        Discriminator(_kind),
    ],
    request: Request,
    served: ServedNow,
    limits: TheLimits,
    notes: TheNotes,
) -> JSONResponse:
    """Reranks (`query`), compares (`inputs` is an object) or embeds (`inputs`), as the route of that name."""
    if isinstance(body, RerankRequest):
        return await rerank(body, request, served, limits, notes)
    if isinstance(body, SimilarityRequest):
        return await similarity(body, served, limits, notes)
    return await embed(body, request, served, limits, notes)
