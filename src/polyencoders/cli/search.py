"""`polyencoders search`: the best documents of an index for a query."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli.display import console, shortened
from polyencoders.cli.index import search_models
from polyencoders.cli.options import (
    AcceptDocumentsFrom,
    AsJson,
    IndexModel,
    IndexPath,
    MinProbability,
    Query,
    Ray,
    RerankBudget,
    RerankOfIndex,
    RerankTop,
    RerankWeight,
    Shards,
    TopK,
    UseWords,
    Where,
    WordsWeight,
    reranker_of,
    words_of,
)
from polyencoders.errors import DataError

if TYPE_CHECKING:
    from polyencoders.index import Answer, Index


def search(
    path: IndexPath,
    query: Query,
    k: TopK = 10,
    where: Where = None,
    mode: Annotated[str, Option(help="`exact`: proven to be the best; `fast`: most probably the best.")] = "exact",
    share: Annotated[float | None, Option(help="The fraction that `fast` looks at. [default: 0.07]")] = None,
    model: IndexModel = None,
    accept_documents_from: AcceptDocumentsFrom = None,
    words: UseWords = False,
    words_weight: WordsWeight = None,
    rerank: RerankOfIndex = None,
    rerank_top: RerankTop = None,
    rerank_weight: RerankWeight = None,
    rerank_budget: RerankBudget = None,
    min_probability: MinProbability = None,
    as_json: AsJson = False,
    ray: Ray = None,
    shards: Shards = None,
) -> None:
    """Find the best documents of an index for a query.

    With --ray, shards are started for this search alone; `polyencoders serve --ray` keeps them.
    """
    if any(not turn.strip() for turn in query):
        raise DataError("--query: the text is empty")
    if shards is not None and ray is None:
        raise DataError("--shards goes with --ray: the cluster that is to hold them")
    models = search_models(model, accept_documents_from)
    opened: AbstractContextManager[Index]
    if ray is None:
        from polyencoders.index import Index

        opened = nullcontext(Index.open(path, *models))
    else:
        from polyencoders.distributed import ShardedIndex

        opened = closing(ShardedIndex.on(ray, path, *models, shards=shards))
    with opened as index:
        try:
            (answer,) = index.search(
                [query],
                k,
                where,
                mode,
                share,
                words=words_of(words, words_weight),
                rerank=reranker_of(rerank),
                rerank_top=rerank_top,
                rerank_weight=rerank_weight,
                rerank_budget=rerank_budget,
                min_probability=min_probability,
            )
        except ValueError as error:
            raise DataError(str(error)) from None
        if as_json:
            for hit in answer:
                fields = {
                    name: value for name, value in hit._asdict().items() if name != "probability" or value is not None
                }
                print(json.dumps(fields, ensure_ascii=False, default=str))
            return
        likely = any(hit.probability is not None for hit in answer)
        columns = ("", "score", *["probability"] * likely, "id", "document")
        table = Table(*columns, title=f"{len(index):,} documents, version {answer.version}")
        for place, hit in enumerate(answer, start=1):
            metadata = "  ".join(f"{name}={value}" for name, value in hit.metadata.items())
            shown = f"{shortened(hit.text or '–', 200)}  {shortened(metadata, 100)}".strip()
            said = ["–" if hit.probability is None else f"{hit.probability:.0%}"] * likely
            table.add_row(str(place), f"{hit.score:.3f}", *said, escape(shortened(hit.id, 12)), escape(shown))
        console.print(table)
        console.print(_promise(answer, len(index)), highlight=False)


def _promise(answer: Answer, documents: int) -> str:
    read = ""
    if answer.first is not None:
        read = f"The reranker read {answer.read} of the best {len(answer.first)}. "
    if answer.certified:
        before = " before it was read" if answer.first is not None else ""
        return f"{read}Proven: no other document scores higher{before}."
    return (
        f"{read}"
        f"Looked at {answer.looked_at:,} of {documents:,} documents. Not proven to be the best: a document that was "
        f"missed could score up to {answer.error:.3f} above the last hit. --mode exact proves it."
    )
