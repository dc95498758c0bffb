"""Document vectors, in the format of OpenAI's embeddings."""

import base64
from typing import Literal

import numpy as np
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from polyencoders.encoders.protocols import is_encoder
from polyencoders.serving.routes.common import Body, ServedNow, Text, Texts, TheLimits, check_texts, errors

router = APIRouter(prefix="/v1", tags=["embeddings"], responses=errors(404))


class EmbeddingsRequest(Body):
    """`POST /v1/embeddings`."""

    input: Text | Texts = Field(description="Documents; not token ids.")
    model: str = Field("", description="Any name: there is one model here.")
    encoding_format: Literal["float", "base64"] = "float"


class Embedding(BaseModel):
    """A document's vector; in base64, float32 in little-endian order."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """A vector for each document."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


@router.post("/embeddings", summary="As OpenAI's API")
async def embeddings(request: EmbeddingsRequest, served: ServedNow, limits: TheLimits) -> EmbeddingsAnswer:
    """Returns document vectors, as the index keeps them. Query codes are not available here."""
    if not is_encoder(served.engine.model):
        name = served.engine.name
        raise HTTPException(404, f"{name} reads query and document together: it has no document vectors")
    texts = [request.input] if isinstance(request.input, str) else request.input
    check_texts("input", texts, limits)
    vectors = await served.engine.document_vectors(texts)
    tokens = await served.engine.tokens(texts)
    packed = request.encoding_format == "base64"
    return EmbeddingsAnswer(
        data=[
            Embedding(
                index=place,
                embedding=base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() if packed else vector.tolist(),
            )
            for place, vector in enumerate(vectors)
        ],
        model=served.engine.name,
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    owned_by: str = "polyencoders"


class ModelList(BaseModel):
    """The list of models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


@router.get("/models", summary="As OpenAI's API")
async def models(served: ServedNow) -> ModelList:
    """Names the model that is served."""
    return ModelList(data=[ModelCard(id=served.engine.name)])
