"""Scores of pairs: vLLM's `/score`, and `/similarity` and `/predict` of text-embeddings-inference."""

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import AliasChoices, BaseModel, Field

from polyencoders.errors import DataError
from polyencoders.serving.notes import TheNotes
from polyencoders.serving.routes import common
from polyencoders.serving.routes.common import Body, ServedNow, Text, TheLimits
from polyencoders.serving.routes.rerank import UsageOfTokens, relevance, scored
from polyencoders.serving.routes.texts import Items, OfTexts, text_of
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


def _listed(name: str, given: str | list[Any], limits: Limits) -> list[str]:
    items = [given] if isinstance(given, str) else given
    common.check_number(name, items, limits)
    return [text_of(item, f"{name}.{place}") for place, item in enumerate(items)]


async def score(body: ScoreRequest, served: ServedNow, limits: TheLimits, notes: TheNotes) -> JSONResponse:
    """Scores documents for a query, or each document for a query of its own, as vLLM does."""
    body.read(notes)
    queries, texts = _listed("text_1", body.text_1, limits), _listed("text_2", body.text_2, limits)
    if len(queries) not in (1, len(texts)):
        raise DataError(f"text_1: {len(queries):,} texts for {len(texts):,} of text_2: give one, or as many")
    raw = await scored(served, limits, notes, queries, texts, "text_2", body.cutting())
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
    texts = _listed("inputs.sentences", body.inputs.sentences, limits)
    raw = await scored(served, limits, notes, [body.inputs.source_sentence], texts, "inputs.sentences", body.cutting())
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
    common.check_number("inputs", body.inputs, limits)
    queries, texts = map(list, zip(*body.pairs(), strict=True))
    raw = await scored(served, limits, notes, queries, texts, "inputs")
    shown = raw if body.raw_scores else relevance(served, raw)
    found = [[{"label": "LABEL_0", "score": one}] for one in shown.tolist()]
    return JSONResponse(found if isinstance(body.inputs[0], list) else found[0])
