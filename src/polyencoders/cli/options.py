"""Options that several commands share, with their help. Knows the command line; nothing of what a command does."""

from __future__ import annotations

from typing import Annotated, Any

import typer

DATA_HELP = (
    '`chitchat`, the built-in conversations; a JSON Lines file (plain or gzipped): `{"query": "..." or '
    '["oldest turn", "...", "newest"], "positive": "..."}`, optionally `negatives` and `candidates`; or FORMAT:PATH, '
    "such as `mutual:data/mutual` or `beir:scifact` (docs/data.md)."
)
Data = Annotated[str, typer.Option(help=DATA_HELP)]
Backbone = Annotated[str, typer.Option(help="Any Hugging Face encoder: a directory, or a name on the hub.")]
Seed = Annotated[
    int, typer.Option(help="Seed of new weights, of the order of the data, and of sampled queries and candidates.")
]
Freeze = Annotated[
    list[str] | None,
    typer.Option(
        help="What is not trained: `backbone` (only codes and maps are; seconds instead of minutes, and document "
        "vectors stay the backbone's own), `documents` (in a recipe, with `shared_tower: false`), `embeddings`, "
        "`all-but-top-K`. Can be given several times."
    ),
]
AcceptDocumentsFrom = Annotated[
    str | None,
    typer.Option(help="The model that made the index, when --model is another with the same document side."),
]

ON_RAY: dict[str, Any] = {"rich_help_panel": "On a Ray cluster", "show_default": False}

IndexPath = Annotated[str, typer.Argument(help="The index: a folder, or `s3://bucket/name` in object storage.")]
MadeBy = Annotated[
    str | None, typer.Option(help="The model. [default: from where it was when the index was made]", show_default=False)
]
