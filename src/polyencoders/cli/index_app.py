"""The commands of `polyencoders index` and their help. Each imports its part when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyencoders.cli.options import AcceptDocumentsFrom, IndexPath, MadeBy

index_app = typer.Typer(
    help=(
        "Documents encoded once and kept, to be searched by `polyencoders search`.\n\n"
        'Needs `pip install "polyencoders[index]"`.'
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Documents = Annotated[
    str,
    typer.Option(
        help="`chitchat`, the built-in replies, or a file, read as a stream: JSON Lines, CSV, TSV (each may be "
        "gzipped), Parquet, or a text a line. Fields besides the text and the id are kept, to filter by."
    ),
]
TextColumn = Annotated[str, typer.Option("--text", help="The field that holds the text.")]
IdColumn = Annotated[
    str | None, typer.Option("--id", help="The field that holds the id. [default: `id` where there is one]")
]
OnRay = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Have all workers of a Ray cluster encode: `HOST:PORT` of its head; `auto`: that of this machine; "
        "`local`: a new one. All machines must see the index under the same path. Everything is read and checked "
        'first, and comes in as one version. Needs `pip install "polyencoders[ray]"`.',
        show_default=False,
    ),
]


@index_app.command()
def create(
    path: IndexPath,
    data: Annotated[str | None, typer.Option(help="As for `add`; without it the index is empty.")] = None,
    model: Annotated[str, typer.Option(help="A bi- or poly-encoder: a directory, or a name on the hub.")] = (
        "sentence-transformers/all-MiniLM-L6-v2"
    ),
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vectors that the model's document side made already: .npy, .parquet or a .lance table."),
    ] = None,
    vector_column: Annotated[str, typer.Option(help="The column of --vectors that holds them.")] = "vector",
    text: TextColumn = "text",
    id: IdColumn = None,
    ray: OnRay = None,
) -> None:
    """Make an index; interrupted, the same command goes on where it stopped.

    Examples:

        polyencoders index create replies --data chitchat

        polyencoders index create papers --data papers.jsonl.gz --text abstract --model models/mine
    """
    from polyencoders.cli import index as command

    command.create(path, data, vectors, model, text, id, vector_column, ray)


@index_app.command()
def add(
    path: IndexPath,
    data: Documents,
    model: MadeBy = None,
    accept_documents_from: AcceptDocumentsFrom = None,
    text: TextColumn = "text",
    id: IdColumn = None,
    ray: OnRay = None,
) -> None:
    """Add documents; those whose ids are there are replaced, those that are there just so are left alone.

    Interrupted, the same command goes on where it stopped, with --ray as well.
    """
    from polyencoders.cli import index as command

    command.add(path, data, model, accept_documents_from, text, id, ray)


@index_app.command()
def delete(
    path: IndexPath,
    id: Annotated[list[str] | None, typer.Option(help="Of a document; can be given several times.")] = None,
    where: Annotated[str | None, typer.Option(help="An SQL condition: `lang = 'en' AND year < 2020`.")] = None,
) -> None:
    """Delete documents, by id or by a filter."""
    from polyencoders.cli import index as command

    command.delete(path, id or [], where)


@index_app.command()
def info(path: IndexPath) -> None:
    """What the index holds, and which model made it."""
    from polyencoders.cli import index as command

    command.info(path)


@index_app.command()
def verify(path: IndexPath) -> None:
    """Check every file against its checksum, and read every document."""
    from polyencoders.cli import index as command

    command.check(path)


@index_app.command()
def compact(
    path: IndexPath,
    keep_days: Annotated[float, typer.Option(help="Versions older than this are removed.")] = 1.0,
) -> None:
    """Join small files, lay documents out anew, and remove old versions."""
    from polyencoders.cli import index as command

    command.compact(path, keep_days)
