"""The same question asked of several models, one after the other, so that each one's time is its own.

The model that is served comes first. Models whose document vectors the index holds search all of it; the others rank
the candidates that the first found. Of a poly-encoder there is always its control: its codes averaged into one vector.
Knows what is served; nothing of Gradio or of HTML.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from polyencoders.models import PolyEncoder
from polyencoders.serving.engine import Engine, Vectors
from polyencoders.serving.library import Library
from polyencoders.serving.page.answers import Clock, Found, Question, Ranking, given, look_up, rerank, search
from polyencoders.serving.served import Served

CANDIDATES = 50
"""Documents that models rank which cannot search the index."""
SHOWN = 10
"""Documents of each model, unless fewer are asked for."""


async def compare(served: Served, question: Question) -> list[Ranking]:
    """Rankings of every model that is served; that of the first holds all candidates.

    Raises
    ------
    BusyError
        Too much waits.
    DataError, IndexingError
        The question cannot be answered as it is.
    """
    if served.library is not None:
        return await _in_index(served, served.library, question)
    documents = given(question)
    rankings = [await rerank(served.engine, question.query, documents)]
    if has_control(served.engine):
        rankings.append(await _averaged_of(served.engine, question, documents))
    return rankings + [await rerank(other, question.query, documents) for other in served.others]


def has_control(engine: Engine) -> bool:
    """Whether there are codes to average."""
    return isinstance(engine.model, PolyEncoder) and engine.model.query_codes.number_of_codes > 1


def averaged(codes: Vectors) -> Vectors:
    """The mean of the codes that are present, `(m, d) -> (d,)`.

    >>> averaged(np.array([[1.0, 3.0], [3.0, 1.0], [0.0, 0.0]])).tolist()
    [2.0, 2.0]
    """
    return np.asarray(codes.sum(axis=0) / max(1, int((codes != 0).any(axis=1).sum())), dtype=np.float32)


async def _in_index(served: Served, library: Library, question: Question) -> list[Ranking]:
    first, codes = await search(served.engine, library, replace(question, k=max(question.k, CANDIDATES)))
    rankings = [first]
    shown = replace(question, k=min(question.k, SHOWN))
    if has_control(served.engine):
        clock = Clock()
        clock.times["query"] = first.times["query"]  # they are the same codes
        rankings.append(await look_up(library, averaged(codes[0])[None], shown, _control(served.engine), clock, 1.0))
    candidates = first.found[:CANDIDATES]
    for other in served.others:
        if other in served.searching:
            rankings.append((await search(other, library, shown))[0])
        else:
            ranked = await rerank(other, question.query, candidates)
            rankings.append(replace(ranked, did=f"reranked the {len(ranked.found)} that {first.name} found first"))
    return rankings


async def _averaged_of(engine: Engine, question: Question, documents: list[Found]) -> Ranking:
    clock = Clock()
    (codes,) = await engine.query_vectors([question.query])
    clock.stop("query")
    vectors = await engine.document_vectors(question.documents)
    clock.stop("documents known")
    scores = torch.from_numpy(vectors).double().numpy() @ averaged(codes)
    order = np.argsort(-scores, kind="stable")
    found = [replace(documents[place], score=float(scores[place])) for place in order]
    return replace(
        _control(engine), did=f"ranked the {len(documents):,} documents given", times=clock.times, found=found
    )


def _control(engine: Engine) -> Ranking:
    return Ranking(f"{engine.name}, averaged", "bi-encoder: the mean of the codes", "", {}, [])
