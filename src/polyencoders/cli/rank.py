"""`polyencoders rank`: the best of a file of documents for a query.

Knows one model and one list; nothing of indexes.
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, quieten
from polyencoders.data import read_texts
from polyencoders.errors import DataError
from polyencoders.models.loading import load_model


def run(model: str, turns: list[str], documents: Path, top_k: int, as_json: bool) -> None:
    """Rank the documents of a file and print the best."""
    quieten()
    if any(not turn.strip() for turn in turns):
        raise DataError("--query: the text is empty")
    if top_k < 1:
        raise DataError(f"--top-k must be at least 1, got {top_k}")
    texts = read_texts(documents)
    loaded = load_model(resolve_backbone(model))
    shown = not as_json and len(texts) > 500
    ranked = loaded.rank(turns, texts, top_k=top_k, return_documents=True, batch_size=64, show_progress_bar=shown)
    if as_json:
        for hit in ranked:
            print(json.dumps(hit, ensure_ascii=False))
        return
    table = Table("", "score", "document", title=f"the best of {len(texts):,} documents")
    for place, hit in enumerate(ranked, start=1):
        table.add_row(str(place), f"{hit['score']:.3f}", escape(hit["text"]))
    console.print(table)
