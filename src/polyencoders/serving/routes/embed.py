"""Embeddings, by content and not by path: how a client names its texts decides what it reads of the answer.

OpenAI, Jina, Voyage, NVIDIA, mixedbread, vLLM and Infinity send `input`, text-embeddings-inference `inputs`, Cohere
`texts` (or `inputs` that are objects), each to any of `PATHS`.
"""

import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from polyencoders.encoders.protocols import Vectors, is_encoder
from polyencoders.errors import DataError
from polyencoders.serving.engine import Engine
from polyencoders.serving.errors import TooLargeError
from polyencoders.serving.loaded import Served
from polyencoders.serving.notes import Notes, TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import ServedNow, TheLimits
from polyencoders.serving.routes.texts import Items, OfTexts, say_blank, text_of
from polyencoders.serving.settings import Limits

router = APIRouter(tags=["embeddings"], responses=common.errors(404))

PATHS = ("/v1/embeddings", "/embeddings", "/v1/embed", "/v2/embed", "/embed")
NAMES = ("input", "inputs", "texts")
"""What clients call the texts."""
SIDES = {
    "document": ("document", "passage", "search_document", "retrieval.passage", "retrieval_document"),
    "query": ("query", "search_query", "retrieval.query", "retrieval_query"),
}
"""What clients call the two sides of a search."""
ALIKE = ("text-matching", "separation", "classification", "clustering", "semantic_similarity")
"""What they call tasks that compare texts with each other: both are documents then."""
FORMATS = ("float", "base64")

Side = Literal["query", "document"]


def _texts(given: Any) -> Any:
    """Return a list of texts. Token ids are refused: they are of another tokeniser."""
    items = given if isinstance(given, list) else [given]
    numbers = next((one for one in items if one is not None), None)
    if isinstance(numbers, int) or (isinstance(numbers, list) and all(isinstance(one, int) for one in numbers[:1])):
        raise ValueError(
            "token ids of another model's tokeniser: send texts (LangChain's OpenAIEmbeddings: "
            "check_embedding_ctx_length=False)"
        )
    return items


class EmbedRequest(OfTexts):
    """Embeds texts. They may also be called `inputs` or `texts`."""

    input: Annotated[Items | str, BeforeValidator(_texts)] = Field(validation_alias=AliasChoices(*NAMES))
    input_type: str | None = Field(
        None,
        validation_alias=AliasChoices("input_type", "task", "task_type", "prompt_name"),
        description="`query` or `document`, also in the words of Cohere, Jina and NVIDIA; or as the end of the model's "
        "name, `demo:query`. Without it they are documents.",
    )
    encoding_format: str | list[str] = Field(
        "float",
        validation_alias=AliasChoices("encoding_format", "embedding_types", "embedding_type"),
        description="`float` or `base64` (float32 in little-endian order).",
    )
    output_dtype: str | None = Field(
        None, description="Voyage's: `float`. Its client sends `encoding_format` too, and unpacks what it asked for."
    )
    dimensions: int | None = Field(
        None,
        validation_alias=AliasChoices("dimensions", "output_dimension"),
        description="That of the model: its vectors cannot be shortened.",
    )
    normalize: bool | None = Field(
        None,
        validation_alias=AliasChoices("normalize", "normalized"),
        description="True: vectors of length 1. By default as the model makes them.",
    )

    @property
    def name(self) -> str:
        """What the client calls the texts."""
        return next(name for name in NAMES if self.has(name))

    @property
    def side(self) -> Side:
        """Whether queries or documents are meant; DataError if it is said in words that are not known."""
        said = self.input_type
        if said is None:
            said = end if (end := self.model.rpartition(":")[2]) in ("query", "document", "passage") else "document"
        for side, names in SIDES.items():
            if said.lower() in names:
                return side  # type: ignore[return-value]
        if said.lower() in ALIKE:
            return "document"
        known = ", ".join(SIDES["query"] + SIDES["document"])
        raise DataError(f"input_type: {said[:40]!r} is no side of a search: expected one of {known}")

    def read(self, notes: Notes) -> None:
        """Say what was mended or is not used."""
        super().read(notes)
        if (self.input_type or "").lower() in ALIKE:
            notes.say(f"input_type: {self.input_type} is no side of a search, so they are documents")

    @property
    def formats(self) -> list[str]:
        """The formats that are asked for, each once; DataError for one that is not made."""
        if self.output_dtype not in (None, "float"):
            raise DataError(
                f"output_dtype: {self.output_dtype[:20]!r} is not made here, all vectors are float32: ask for 'float', "
                "or leave it out"
            )
        given = [self.encoding_format] if isinstance(self.encoding_format, str) else self.encoding_format
        asked = list(dict.fromkeys(given))
        for one in asked:
            if one not in FORMATS:
                raise DataError(f"encoding_format: {one[:20]!r} is not made here: ask for 'float' or 'base64'")
        return asked or ["float"]


def encoder_of(served: Served) -> Engine:
    """Return the engine of what is served; HTTPException if it makes no vectors."""
    if not is_encoder(served.engine.model):
        name = served.engine.name
        raise HTTPException(404, f"{name} reads query and document together: it has no document vectors, it reranks")
    return served.engine


async def vectors_of(
    body: EmbedRequest, served: Served, limits: Limits, notes: Notes, every: bool = False
) -> tuple[list[str], Vectors]:
    """Return the texts of a request, and their vectors `(n, d)`; zeros for blank ones, which nothing then finds.

    With `every`, all vectors of a query, `(n, m, d)`.
    """
    engine = encoder_of(served)
    side, dimension = body.side, engine.model.dimension  # type: ignore[union-attr]
    if body.dimensions not in (None, 0, dimension):  # 0 is what Infinity's client sends
        raise DataError(
            f"dimensions: the vectors of {engine.name} have {dimension}, and it was not made for shorter ones: "
            f"ask for {dimension}, or leave it out"
        )
    if side == "query" and engine.codes > 1 and not every:
        raise DataError(
            f"input_type: a query of {engine.name} is {engine.codes} vectors and a document one, so no single vector "
            "finds its documents: rerank with it (/v1/rerank), search with it (/search), take all vectors of a query "
            "(/embed_all), or embed documents (input_type 'document')"
        )
    common.check_number(body.name, body.input, limits)
    texts = [text_of(item, f"{body.name}.{place}") for place, item in enumerate(body.input)]
    common.check_texts(body.name, texts, limits)
    codes = engine.codes if every and side == "query" else 1
    if len(texts) > 1 and len(texts) * codes > limits.documents:
        raise TooLargeError(
            f"{body.name}: {len(texts):,} queries of {codes:,} vectors each, the most is {limits.documents:,} vectors"
        )
    blank = set(say_blank(body.name, texts, notes, "a vector of zeros"))
    read = [place for place in range(len(texts)) if place not in blank]
    cut = await body.cutting().cut(body.name, [texts[place] for place in read], engine)
    vectors = np.zeros((len(texts), codes, dimension), dtype=np.float32)
    if read:
        made = await (engine.query_vectors(cut) if side == "query" else engine.document_vectors(cut))
        vectors[read] = made.reshape(len(read), codes, dimension)
    if body.normalize:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return texts, vectors if every else vectors[:, 0]


def packed(vector: Vectors) -> str:
    """Return a vector in base64, float32 in little-endian order."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


# -- what each client reads --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedded:
    """Texts with their vectors, and what an answer says of them."""

    request: EmbedRequest
    texts: list[str]
    vectors: Vectors
    tokens: int
    model: str
    notes: Notes
    version: str  # Of Cohere's API: "1" or "2"


class Embedding(BaseModel):
    """A text's vector; in base64, float32 in little-endian order."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """A vector for each text, for clients that send `input`."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


def _openai(found: Embedded) -> dict[str, Any]:
    as_text = found.request.formats[0] == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": place, "embedding": packed(vector) if as_text else vector.tolist()}
            for place, vector in enumerate(found.vectors)
        ],
        "model": found.model,
        "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
    }


def _cohere(found: Embedded) -> dict[str, Any]:
    by_type = found.version == "2" or found.request.has("embedding_types")
    made: dict[str, Callable[[], Any]] = {
        "float": found.vectors.tolist,
        "base64": lambda: [packed(vector) for vector in found.vectors],
    }
    meta: dict[str, Any] = {"api_version": {"version": found.version}, "billed_units": {"input_tokens": found.tokens}}
    if found.notes:
        meta["warnings"] = list(found.notes)
    return {
        "id": str(uuid.uuid4()),
        "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
        "embeddings": {name: made[name]() for name in found.request.formats} if by_type else found.vectors.tolist(),
        "texts": found.texts,
        "meta": meta,
    }


def _tei(found: Embedded) -> Any:
    if any(isinstance(item, dict) for item in found.request.input):  # Cohere's, which may hold images
        return _cohere(found)
    return found.vectors.tolist()


ANSWERS: dict[str, Callable[[Embedded], Any]] = {"input": _openai, "inputs": _tei, "texts": _cohere}
"""By what the client calls the texts."""


async def embed(
    body: EmbedRequest, request: Request, served: ServedNow, limits: TheLimits, notes: TheNotes
) -> JSONResponse:
    """Embeds documents as the index holds them, or queries of models whose queries are one vector.

    Texts called `input` are answered as by OpenAI, Jina and Voyage, `inputs` by lists as from
    text-embeddings-inference, and `texts` as by Cohere.
    """
    body.read(notes)
    _ = body.formats  # before anything is computed
    texts, vectors = await vectors_of(body, served, limits, notes)
    tokens = sum(await served.engine.tokens(texts))
    version = request.url.path[2] if request.url.path.startswith(("/v1", "/v2")) else "2"
    found = Embedded(body, texts, vectors, tokens, served.engine.name, notes, version)
    return JSONResponse(ANSWERS[body.name](found))


for _path in PATHS:
    router.add_api_route(
        _path, embed, methods=["POST"], response_model=EmbeddingsAnswer | list[list[float]] | dict[str, Any]
    )


@router.post("/embed_all", response_model=list[list[list[float]]])
async def embed_all(body: EmbedRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Returns all vectors of each text: of a query of a poly-encoder one for each code, otherwise one."""
    body.read(notes)
    _, vectors = await vectors_of(body, served, limits, notes, every=True)
    return JSONResponse(vectors.tolist())


class VectorConfig(BaseModel):
    """How Weaviate wants a vector."""

    task_type: str | None = Field(None, description="`query` or `passage`.")


class VectorRequest(OfTexts):
    """As Weaviate asks for one vector."""

    text: str
    config: VectorConfig = Field(default_factory=lambda: VectorConfig(task_type=None))
    dims: int = 0
    vector: Any = None


@router.post("/vectors", response_model=dict[str, Any])
async def vectors(body: VectorRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Embeds one text, as Weaviate's text2vec-transformers asks for it."""
    body.read(notes)
    asked = EmbedRequest.model_validate({"input": [body.text], "input_type": body.config.task_type or None})
    _, (vector,) = await vectors_of(asked, served, limits, notes)
    return JSONResponse({"text": body.text, "vector": vector.tolist(), "dim": len(vector)})
