"""Scores of pairs: vLLM's `/score`, and `/similarity` and `/predict` of text-embeddings-inference."""

import asyncio
import time
import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, Field

from polyencoders.errors import DataError
from polyencoders.serving.loaded import Served
from polyencoders.serving.notes import Notes, TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import Body, ServedNow, Text, TheLimits
from polyencoders.serving.routes.rerank import UsageOfTokens, relevance, scored
from polyencoders.serving.routes.texts import AS_READ, Cutting, Items, OfTexts, say_blank, text_of
from polyencoders.serving.settings import Limits

router = APIRouter(tags=["rerank"], responses=common.errors())


class ScoreRequest(OfTexts):
    """Scores of one text with each of others, or of as many pairs."""

    text_1: str | Items = Field(
        validation_alias=AliasChoices("text_1", "queries", "data_1"), description="A query, or one for each document."
    )
    text_2: str | Items = Field(
        validation_alias=AliasChoices("text_2", "documents", "items", "data_2"), description="A document, or several."
    )


class Score(BaseModel):
    """The score of a pair, between 0 and 1."""

    index: int
    object: str = "score"
    score: float


class ScoreAnswer(BaseModel):
    """The scores of pairs, in the order given."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Score]
    usage: UsageOfTokens


async def _scores_of_pairs(
    served: Served,
    limits: Limits,
    notes: Notes,
    pairs: list[tuple[str, str]],
    name: str,
    cutting: Cutting = AS_READ,
) -> NDArray[np.float64]:
    """Return the model's scores of pairs of a query and a document, `(n,)`."""
    common.check_texts(name, [text for _, text in pairs], limits)
    say_blank(name, [text for _, text in pairs], notes, "so it gets the lowest score")
    said = Notes()  # of each again
    found = await asyncio.gather(*(scored(served, limits, said, query, [text], name, cutting) for query, text in pairs))
    return np.concatenate(found)


def _listed(name: str, given: str | list[Any]) -> list[str]:
    items = [given] if isinstance(given, str) else given
    return [text_of(item, f"{name}.{place}") for place, item in enumerate(items)]


async def score(body: ScoreRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Scores documents for a query, or each document for a query of its own, as vLLM does."""
    body.read(notes)
    queries, texts = _listed("text_1", body.text_1), _listed("text_2", body.text_2)
    if len(queries) not in (1, len(texts)):
        raise DataError(f"text_1: {len(queries):,} texts for {len(texts):,} of text_2: give one, or as many")
    common.check_texts("text_1", queries, limits)
    cutting = body.cutting()
    if len(queries) == 1:
        raw = await scored(served, limits, notes, queries[0], texts, "text_2", cutting)
    else:
        raw = await _scores_of_pairs(served, limits, notes, list(zip(queries, texts, strict=True)), "text_2", cutting)
    found = relevance(served, raw).tolist()
    tokens = sum(await served.engine.tokens([*queries, *texts]))
    answer = ScoreAnswer(
        id=f"score-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=served.engine.name,
        data=[Score(index=place, score=one) for place, one in enumerate(found)],
        usage=UsageOfTokens(prompt_tokens=tokens, total_tokens=tokens),
    )
    return JSONResponse(answer.model_dump())


for _path in ("/score", "/v1/score"):
    router.add_api_route(_path, score, methods=["POST"], response_model=ScoreAnswer)


class Sentences(BaseModel):
    """A text, and others to compare with it."""

    source_sentence: Text
    sentences: Items


class SimilarityRequest(OfTexts):
    """`POST /similarity`."""

    inputs: Sentences
    parameters: dict[str, Any] = Field({}, description="Not used.")


@router.post("/similarity", response_model=list[float])
async def similarity(body: SimilarityRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Scores sentences as documents for a query, `source_sentence`; the model's own scores, in the order given."""
    body.read(notes)
    texts = _listed("inputs.sentences", body.inputs.sentences)
    query = body.inputs.source_sentence
    raw = await scored(served, limits, notes, query, texts, "inputs.sentences", body.cutting())
    return JSONResponse(raw.tolist())


class PredictRequest(Body):
    """`POST /predict`: pairs of a query and a document."""

    mends = True

    inputs: Annotated[list[Any], Field(min_length=1)]
    raw_scores: bool = False

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs; DataError for anything else."""
        inputs = self.inputs
        listed = [inputs] if len(inputs) == 2 and all(isinstance(one, str) for one in inputs) else inputs
        for place, pair in enumerate(listed):
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise DataError(
                    f"inputs.{place}: this model tells how well a document answers a query: give pairs, "
                    "[[query, document], ...]; or send query and texts to /rerank"
                )
        return [(query, document) for query, document in listed]


@router.post("/predict", response_model=list[Any])
async def predict(body: PredictRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Scores pairs, as text-embeddings-inference does for a classifier with one label."""
    body.read(notes)
    pairs = body.pairs()
    raw = await _scores_of_pairs(served, limits, notes, pairs, "inputs")
    shown = raw if body.raw_scores else relevance(served, raw)
    found = [[{"label": "LABEL_0", "score": one}] for one in shown.tolist()]
    return JSONResponse(found if isinstance(body.inputs[0], list) else found[0])
