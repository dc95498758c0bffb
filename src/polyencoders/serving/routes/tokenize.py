"""Tokens of texts, for clients that cut them to length: as text-embeddings-inference and vLLM make them."""

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from polyencoders.serving.notes import TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import Body, ServedNow, TheLimits
from polyencoders.serving.routes.texts import Items, text_of

router = APIRouter(tags=["operations"], responses=common.errors())


class TokenizeRequest(Body):
    """`POST /tokenize`. The texts may also be called `prompt`, as vLLM does."""

    mends = True

    inputs: Annotated[Items, BeforeValidator(lambda given: [given] if isinstance(given, str) else given)] = Field(
        validation_alias=AliasChoices("inputs", "prompt")
    )
    add_special_tokens: bool = True
    model: str = ""


class TokenOfText(BaseModel):
    """A token, with the characters that it stands for."""

    id: int
    text: str
    special: bool
    start: int
    stop: int


@router.post("/tokenize", response_model=list[list[TokenOfText]] | dict[str, Any])
async def tokenize(body: TokenizeRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Returns all tokens of texts, also those that the model would cut off."""
    body.read(notes)
    common.check_number("inputs", body.inputs, limits)
    texts = [text_of(item, f"inputs.{place}") for place, item in enumerate(body.inputs)]
    common.check_texts("inputs", texts, limits)
    common.check_length("inputs: all texts", "".join(texts), limits)  # tokens take a hundred times their memory
    found = await served.engine.tokens_of(texts)
    kept = [[token for token in tokens if body.add_special_tokens or not token.special] for tokens in found]
    if body.has("prompt"):
        ids = [token.id for tokens in kept for token in tokens]
        return JSONResponse({"count": len(ids), "max_model_len": served.engine.model.longest, "tokens": ids})
    names = ("id", "text", "start", "stop", "special")
    return JSONResponse([[dict(zip(names, token, strict=True)) for token in tokens] for tokens in kept])
