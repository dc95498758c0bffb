"""`polyencoders index ...`: make, fill, inspect and tidy an index."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli.architectures import DEFAULT_BACKBONE, resolve_backbone
from polyencoders.cli.display import advancing, console, document_progress, resumable
from polyencoders.cli.options import (
    WITH_CHUNKS,
    AcceptDocumentsFrom,
    Chunks,
    IndexModel,
    IndexPath,
    OnError,
    Ray,
    TextField,
    Where,
    WordsLanguage,
    items_left_out,
    words_of,
)
from polyencoders.encoders.cut import SAMPLE, said_of_documents
from polyencoders.errors import DataError, IndexingError

if TYPE_CHECKING:
    from polyencoders.index import Added, Index
    from polyencoders.index.tuning import Tuning

BUILT_IN = "chitchat"

index_app = typer.Typer(
    help=(
        "Documents encoded once and kept, to be searched by `polyencoders search`.\n\n"
        'Needs `pip install "polyencoders[index]"`.'
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
_DOCUMENTS = (
    "`chitchat`, the built-in replies, or a file, read as a stream: JSON, CSV, TSV (each may be gzipped), "
    "Excel, Parquet, or a text a line. Fields besides the text and the id are kept, to filter by."
)
IdField = Annotated[str | None, Option("--id", help="The field that holds the id. [default: `id` where there is one]")]


@index_app.command()
def create(
    path: IndexPath,
    data: Annotated[str | None, Option(help=f"{_DOCUMENTS} Without it the index is empty.")] = None,
    model: Annotated[str, Option(help="A bi- or poly-encoder: a directory, or a name on the hub.")] = DEFAULT_BACKBONE,
    vectors: Annotated[
        Path | None, Option(help="Vectors that the model made of documents before: .npy, .parquet or a .lance table.")
    ] = None,
    vector_column: Annotated[str, Option(help="The column of --vectors that holds them.")] = "vector",
    text: TextField = None,
    id: IdField = None,
    words_language: WordsLanguage = "none",
    chunks: Chunks = False,
    on_error: OnError = "stop",
    ray: Ray = None,
) -> None:
    """Make an index; interrupted, the same command goes on where it stopped.

    With --ray, all workers of the cluster encode, and must see the index under the same path.

    Examples:

        polyencoders index create replies --data chitchat

        polyencoders index create papers --data papers.jsonl.gz --text abstract --model models/mine
    """
    from polyencoders.index import Index, is_index

    if chunks and data is None:
        raise DataError("--chunks goes with --data: the documents that are to be cut into passages")
    if data is not None and vectors is not None:
        raise DataError("give --data, or --vectors: a Parquet file or a LanceDB table brings its own texts")
    if ray is not None and data is None:
        raise DataError("--ray goes with --data: the documents that the cluster is to encode")
    name = resolve_backbone(model)
    words_of(False, None, words_language)  # checks it
    if vectors is not None:
        with document_progress() as bar:
            index = Index.from_vectors(
                path,
                vectors,
                model=name,
                vector_column=vector_column,
                text_column=text or "text",
                id_column=id or "id",
                words_language=words_language,
                advance=advancing(bar, "adopting", None),
            )
        console.print(f"{path}: {len(index):,} documents, as they were.")
    else:
        rows = _documents(data, text, id) if data is not None else None
        _join(ray, path)
        if is_index(path):
            index = Index.open(path, name)
            console.print(f"{path} is there already, with {len(index):,} documents: going on with it.")
        else:
            index = Index.create(path, name, words_language=words_language)
        if rows is None:
            console.print(f"{path}: an empty index; `polyencoders index add {path} --data FILE` fills it.")
            return
        with items_left_out(on_error):
            _fill(index, rows, ray, chunks)
    console.print(f"Search it: [bold]polyencoders search {path} --query '...'[/]", highlight=False)


@index_app.command()
def add(
    path: IndexPath,
    data: Annotated[str, Option(help=_DOCUMENTS)],
    model: IndexModel = None,
    accept_documents_from: AcceptDocumentsFrom = None,
    text: TextField = None,
    id: IdField = None,
    chunks: Chunks = False,
    on_error: OnError = "stop",
    ray: Ray = None,
) -> None:
    """Add documents. One whose id is there replaces it; one that is there unchanged is left alone.

    Interrupted, the same command goes on where it stopped. With --ray, all workers of the cluster encode, and must see
    the index under the same path. Everything is read and checked first, and comes in as one version.
    """
    from polyencoders.index import Index

    rows = _documents(data, text, id)
    _join(ray, path)
    index = Index.open(path, *search_models(model, accept_documents_from))
    with items_left_out(on_error):
        _fill(index, rows, ray, chunks)


@index_app.command()
def delete(
    path: IndexPath,
    id: Annotated[list[str] | None, Option(help="The id of a document. Can be given several times.")] = None,
    where: Where = None,
) -> None:
    """Delete documents, by id or by a filter."""
    from polyencoders.index import Index

    if bool(id) == (where is not None):
        raise DataError("give --id (several times, if you like), or --where: one of the two")
    index = Index.open(path)
    number = index.delete(id) if id else index.delete(where=where)
    console.print(f"deleted {number:,}; {path} holds {len(index):,} documents (version {index.version})")


@index_app.command()
def info(path: IndexPath) -> None:
    """Show what the index holds, and which model made it."""
    from polyencoders.index import Index
    from polyencoders.index.documents import PASSAGE, PASSAGE_OF

    about = Index.open(path).info()
    table = Table("", "", show_header=False, title=str(path))
    cut = {PASSAGE_OF, PASSAGE} <= about.metadata.keys()
    table.add_row("documents" + ", and passages of long ones" * cut, f"{about.documents:,}")
    table.add_row("dimensions", str(about.dimension))
    table.add_row("version", f"{about.version} ({about.versions} kept)")
    table.add_row("made by", escape(about.maker.label) if about.maker else "unknown: it was made of vectors alone")
    if about.maker and about.maker.engine:
        table.add_row("computed by", about.maker.engine)
    table.add_row("filters", escape(", ".join(f"{name} ({kind})" for name, kind in about.metadata.items())) or "–")
    if about.tuning is not None:
        table.add_row("tuned", escape(_tuned(about.tuning)))
    table.add_row("laid out for fast search", f"{about.laid_out:,}")
    table.add_row("size", f"{about.bytes / 1e6:,.1f} MB")
    console.print(table)


@index_app.command()
def verify(path: IndexPath) -> None:
    """Check every file against its checksum, and read every document."""
    from polyencoders.index import verify

    started = time.perf_counter()
    wrong = verify(path)
    for problem in wrong:
        console.print(f"[red]✗[/] {escape(problem)}", highlight=False, soft_wrap=True)
    if wrong:
        raise IndexingError(f"{path}: {len(wrong)} problem{'s' if len(wrong) > 1 else ''} found")
    console.print(f"[green]✓[/] {path} is whole ({time.perf_counter() - started:.1f} s)")


@index_app.command()
def compact(
    path: IndexPath, keep_days: Annotated[float, Option(help="Remove versions that are older than this.", min=0)] = 1.0
) -> None:
    """Join small files, lay documents out anew, and remove old versions."""
    from polyencoders.index import Index

    index = Index.open(path)
    before = index.info().bytes
    with resumable(), document_progress() as bar:
        index.compact(timedelta(days=keep_days), advancing(bar, "laying out", 3 * len(index)))
    console.print(f"{path}: {before / 1e6:,.1f} MB before, {index.info().bytes / 1e6:,.1f} MB now")


def _tuned(tuning: Tuning) -> str:
    """What a search does unless it is told otherwise."""
    words = [f"words at {tuning.words:g}"] if tuning.words is not None else []
    reads = f"{tuning.rerank} reads the best {tuning.rerank_top} at {tuning.rerank_weight:.3g}"
    likely = ["probabilities"] if tuning.calibration is not None else []
    parts = [*words, *[reads] * (tuning.rerank is not None), *likely]
    measured = ", ".join(f"{name} {value:.3f}" for name, value in tuning.measures.items())
    return f"{'; '.join(parts)} ({measured} on {tuning.held_out:,} held-out queries)"


def search_models(model: str | None, accept: str | None) -> tuple[str | None, str | None]:
    """Return the paths of the model to search with and, where it is another, of the one that made the documents."""
    if accept is not None and model is None:
        raise DataError("--accept-documents-from goes with --model: the model that searches the other's documents")
    return (resolve_backbone(model) if model is not None else None), (resolve_backbone(accept) if accept else None)


def _documents(data: str, text: str | None, id: str | None) -> Iterable[Any]:
    from polyencoders.data import DocumentFile, chitchat_replies

    if data == BUILT_IN:
        return chitchat_replies()
    if not Path(data).exists():
        raise DataError(f"{data}: no such file; expected one, or `{BUILT_IN}`, the built-in replies")
    return DocumentFile(data, text=text, id=id)


def _join(address: str | None, path: str) -> None:
    """Join the cluster, if one is given: before a model is loaded in vain, and before LanceDB, which warns of forks."""
    if address is not None:
        from polyencoders.distributed import connect
        from polyencoders.index.jobs import in_a_folder
        from polyencoders.index.storage import place_of

        in_a_folder(place_of(path))
        connect(address)


def _fill(index: Index, rows: Iterable[Any], ray: str | None, chunks: bool) -> None:
    started = time.perf_counter()
    first: list[str] = []  # Some of the texts, to see how many are cut
    with resumable():
        added = _add(index, rows, ray, first, chunks)
    seconds = time.perf_counter() - started
    if index.model is not None and index.model.trial:
        console.print(f"Encoded {index.model.trial}.", highlight=False)
    what = "passages" if chunks else "documents"
    console.print(
        f"{added.added:,} added, {added.replaced:,} replaced, {added.unchanged:,} were there; {added.encoded:,} texts "
        f"encoded in {seconds:.0f} s ({added.total / max(seconds, 1e-9):,.0f} {what} a second).\n"
        f"{index.path} holds {len(index):,} {what} (version {index.version})."
    )
    if index.model is not None:
        for line in said_of_documents(index.model, first, None if chunks else WITH_CHUNKS):
            console.print(escape(line), highlight=False, soft_wrap=True)


def _add(index: Index, rows: Iterable[Any], ray: str | None, first: list[str], chunks: bool) -> Added:
    """Add the rows, encoded here or on a cluster, with a progress bar."""
    begun = 0

    def counted() -> Iterator[Any]:
        nonlocal begun
        for row in rows:
            begun += 1
            if len(first) < SAMPLE:
                first.append(row["text"])
            yield row

    with document_progress() as bar:
        known = len(rows) if isinstance(rows, list) and not chunks else None  # passages are not known before
        advance = advancing(bar, "adding" if ray is None else "reading", known)
        (task,) = bar.task_ids

        def read(number: int) -> None:
            if not chunks and (fraction := getattr(rows, "fraction", 0.0)) > 0:
                bar.update(task, total=round(begun / fraction))
            advance(number)

        def planned(documents: int, before: int) -> None:
            if before:
                console.print(f"{before:,} of {documents:,} documents were encoded before: going on with the others.")
            bar.reset(task, description="encoding", total=documents, completed=before)

        if ray is None:
            return index.add(counted(), advance=read, passages=chunks)
        from polyencoders.distributed import add
        from polyencoders.index import Watch

        return add(index, counted(), ray, watch=Watch(read, planned, advance), passages=chunks)
