"""The model that is served, as OpenAI's API names it."""

from typing import Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from polyencoders.serving.loaded import Served
from polyencoders.serving.routes.common import ServedNow, errors

router = APIRouter(tags=["embeddings"], responses=errors(404))


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "polyencoders"


class ModelList(BaseModel):
    """The list of models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def _card(served: Served) -> ModelCard:
    return ModelCard(id=served.engine.name, created=served.since)


@router.get("/v1/models", summary="As OpenAI's API")
@router.get("/models", include_in_schema=False)
async def models(served: ServedNow) -> ModelList:
    """Names the model that is served."""
    return ModelList(data=[_card(served)])


@router.get("/v1/models/{id:path}", summary="As OpenAI's API")
async def model(id: str, served: ServedNow) -> ModelCard:
    """Describes the model that is served, if it has this name; `demo:query` is the query side of `demo`."""
    name = served.engine.name
    if id not in (name, f"{name}:query", f"{name}:document"):
        raise HTTPException(404, f"the model that is served is {name!r}, not {id[:80]!r}")
    return _card(served)
