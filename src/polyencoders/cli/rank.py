"""`polyencoders rank`: the best of a file of documents for a query."""

import json
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console
from polyencoders.cli.options import (
    AsJson,
    Model,
    Query,
    TextField,
    TopK,
    UseWords,
    WordsLanguage,
    WordsWeight,
    words_of,
)
from polyencoders.errors import DataError


def rank(
    model: Model,
    query: Query,
    documents: Annotated[
        Path, Option(help="A text on each line, JSON of texts or objects, or a table (CSV, TSV, Excel, Parquet).")
    ],
    text: TextField = None,
    top_k: TopK = 10,
    words: UseWords = False,
    words_weight: WordsWeight = None,
    words_language: WordsLanguage = "none",
    as_json: AsJson = False,
) -> None:
    """Rank the documents of a file for a query."""
    from polyencoders.data import read_texts

    if any(not turn.strip() for turn in query):
        raise DataError("--query: the text is empty")
    texts = read_texts(documents, text)  # before the model, which takes seconds

    from polyencoders.encoders import hits, load
    from polyencoders.encoders.words import fits

    asked = words_of(words, words_weight, words_language)
    loaded = load(resolve_backbone(model))
    bar = not as_json and len(texts) > 500
    (scores,) = loaded.score_lists([query], [texts], batch_size=64, show_progress_bar=bar)
    if asked:
        scores = scores + next(fits(asked, [query], texts))
    ranked = hits(scores, texts, top_k, return_documents=True)
    if as_json:
        for hit in ranked:
            print(json.dumps(hit, ensure_ascii=False))
        return
    table = Table("", "score", "document", title=f"the best of {len(texts):,} documents")
    for place, hit in enumerate(ranked, start=1):
        table.add_row(str(place), f"{hit['score']:.3f}", escape(hit["text"]))
    console.print(table)
