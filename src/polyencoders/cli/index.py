"""`polyencoders index ...` and `polyencoders search`: documents into an index, and hits out of it.

Knows readers, the index and the terminal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, quieten, resumable
from polyencoders.data import DocumentFile, chitchat_replies
from polyencoders.errors import DataError, IndexingError
from polyencoders.index import Added, Answer, Index, is_index, verify

BUILT_IN = "chitchat"


class Reading:
    """Rows as they are read, and an estimate of how many there will be in all."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self.rows = rows
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for row in self.rows:
            self.read += 1
            yield row

    @property
    def total(self) -> int | None:
        """None: there is nothing to judge by yet."""
        if isinstance(self.rows, list):
            return len(self.rows)
        fraction = getattr(self.rows, "fraction", 0.0)
        return round(self.read / fraction) if fraction > 0 else None


def create(
    path: str,
    data: str | None,
    vectors: Path | None,
    model: str,
    text: str,
    id: str | None,
    vector: str,
    ray: str | None,
) -> None:
    """Make an index, of texts or of vectors that exist; go on with one that was interrupted."""
    quieten()
    if data is not None and vectors is not None:
        raise DataError("give --data, or --vectors: a Parquet file or a LanceDB table brings its own texts")
    if ray is not None and data is None:
        raise DataError("--ray goes with --data: the documents that the cluster is to encode")
    name = resolve_backbone(model)
    if vectors is not None:
        with _progress("adopting") as (_, advance):
            index = Index.from_vectors(
                path, vectors, model=name, vector_column=vector, text_column=text, id_column=id or "id", advance=advance
            )
        console.print(f"{path}: {len(index):,} documents, as they were.")
        _how_to_search(path)
        return
    rows = _documents(data, text, id) if data is not None else None
    _join(ray, path)
    if is_index(path):
        index = Index.open(path, name)
        console.print(f"{path} is there already, with {len(index):,} documents: going on with it.")
    else:
        index = Index.create(path, name)
    if rows is None:
        console.print(f"{path}: an empty index; `polyencoders index add {path} --data FILE` fills it.")
        return
    _fill(index, rows, ray)
    _how_to_search(path)


def add(
    path: str, data: str, model: str | None, accept: str | None, text: str, id: str | None, ray: str | None
) -> None:
    """Add documents, or replace those whose ids are there."""
    quieten()
    rows = _documents(data, text, id)
    _join(ray, path)
    _fill(_opened(path, model, accept), rows, ray)


def delete(path: str, ids: list[str], where: str | None) -> None:
    """Delete documents by id or by a filter."""
    if bool(ids) == (where is not None):
        raise DataError("give --id (several times, if you like), or --where: one of the two")
    index = Index.open(path)
    number = index.delete(ids) if ids else index.delete(where=where)
    console.print(f"deleted {number:,}; {path} holds {len(index):,} documents (version {index.version})")


def info(path: str) -> None:
    """What there is to know of an index."""
    about = Index.open(path).info()
    table = Table("", "", show_header=False, title=str(path))
    table.add_row("documents", f"{about.documents:,}")
    table.add_row("dimensions", str(about.dimension))
    table.add_row("version", f"{about.version} ({about.versions} kept)")
    table.add_row("made by", escape(about.maker.label) if about.maker else "nobody knows: vectors alone")
    table.add_row("filters", escape(", ".join(f"{name} ({kind})" for name, kind in about.metadata.items())) or "–")
    table.add_row("laid out for fast search", f"{about.laid_out:,}")
    table.add_row("size", f"{about.bytes / 1e6:,.1f} MB")
    console.print(table)


def check(path: str) -> None:
    """Whether every file is as it was written, and every document readable."""
    started = time.perf_counter()
    wrong = verify(path)
    for problem in wrong:
        console.print(f"[red]✗[/] {escape(problem)}", highlight=False, soft_wrap=True)
    if wrong:
        raise IndexingError(f"{path}: {len(wrong)} problem{'s' if len(wrong) > 1 else ''} found")
    console.print(f"[green]✓[/] {path} is whole ({time.perf_counter() - started:.1f} s)")


def compact(path: str, keep_days: float) -> None:
    """Join small files, make the layout anew, remove old versions."""
    if keep_days < 0:
        raise DataError(f"--keep-days must be 0 or more, got {keep_days}")
    index = Index.open(path)
    before = index.info().bytes
    with resumable(), _progress("laying out", 3 * len(index)) as (_, advance):
        index.compact(timedelta(days=keep_days), advance)
    console.print(f"{path}: {before / 1e6:,.1f} MB before, {index.info().bytes / 1e6:,.1f} MB now")


def search(
    path: str,
    turns: list[str],
    k: int,
    where: str | None,
    mode: str,
    share: float | None,
    model: str | None,
    accept: str | None,
    as_json: bool,
    cluster: str | None = None,
    shards: int | None = None,
) -> None:
    """Find the documents with the highest scores, and print them."""
    quieten()
    if any(not turn.strip() for turn in turns):
        raise DataError("--query: the text is empty")
    if shards is not None and cluster is None:
        raise DataError("--shards goes with --ray: the cluster that is to hold them")
    with _opened_on(cluster, path, model, accept, shards) as index:
        try:
            (answer,) = index.search([turns], k, where, mode, share)
        except ValueError as error:
            raise DataError(str(error)) from None
        _show(index, answer, as_json)


def _show(index: Index, answer: Answer, as_json: bool) -> None:
    if as_json:
        for hit in answer:
            print(json.dumps(hit._asdict(), ensure_ascii=False, default=str))
        return
    table = Table("", "score", "id", "document", title=f"{len(index):,} documents, version {answer.version}")
    for place, hit in enumerate(answer, start=1):
        table.add_row(
            str(place), f"{hit.score:.3f}", escape(_short(hit.id, 12)), escape(_shown(hit.text, hit.metadata))
        )
    console.print(table)
    console.print(_promise(answer, len(index)), highlight=False)


def _promise(answer: Answer, documents: int) -> str:
    if answer.certified:
        return "Proven: no other document scores higher."
    return (
        f"Looked at {answer.looked_at:,} of {documents:,} documents. Not proven to be the best: a document that was "
        f"missed could score up to {answer.error:.3f} above the last hit. --mode exact proves it."
    )


def _opened(path: str, model: str | None, accept: str | None) -> Index:
    return Index.open(path, *_models(model, accept))


@contextmanager
def _opened_on(
    cluster: str | None, path: str, model: str | None, accept: str | None, shards: int | None
) -> Iterator[Index]:
    """The index: of this machine, or over shards of a cluster, which end with the block."""
    if cluster is None:
        yield _opened(path, model, accept)
        return
    from polyencoders.distributed import ShardedIndex

    index = ShardedIndex.on(cluster, path, *_models(model, accept), shards=shards)
    try:
        yield index
    finally:
        index.close()


def _models(model: str | None, accept: str | None) -> tuple[str | None, str | None]:
    """The model to search with, and the one that made the documents."""
    if accept is not None and model is None:
        raise DataError("--accept-documents-from goes with --model: the model that searches the other's documents")
    return (resolve_backbone(model) if model is not None else None), (resolve_backbone(accept) if accept else None)


def _documents(data: str, text: str, id: str | None) -> Iterable[Any]:
    if data == BUILT_IN:
        return chitchat_replies()
    if not Path(data).exists():
        raise DataError(f"{data}: no such file; expected one, or `{BUILT_IN}`, the built-in replies")
    return DocumentFile(data, text=text, id=id)


def _fill(index: Index, rows: Iterable[Any], ray: str | None) -> None:
    reading = Reading(rows)
    started = time.perf_counter()
    with resumable():
        added = _here(index, reading) if ray is None else _on_a_cluster(index, reading, ray)
    seconds = time.perf_counter() - started
    console.print(
        f"{added.added:,} added, {added.replaced:,} replaced, {added.unchanged:,} were there; {added.encoded:,} texts "
        f"encoded in {seconds:.0f} s ({added.total / max(seconds, 1e-9):,.0f} documents a second).\n"
        f"{index.path} holds {len(index):,} documents (version {index.version})."
    )


def _join(address: str | None, path: str) -> None:
    """Join a cluster, if one is named: before a model is loaded for nothing, and LanceDB, which warns of forks."""
    if address is not None:
        from polyencoders.distributed import connect
        from polyencoders.index.jobs import in_a_folder
        from polyencoders.index.storage import place_of

        in_a_folder(place_of(path))
        connect(address)


def _here(index: Index, reading: Reading) -> Added:
    with _progress("adding") as (bar, advance):

        def done(number: int) -> None:
            bar.update(bar.task_ids[0], total=reading.total)
            advance(number)

        return index.add(reading, advance=done)


def _on_a_cluster(index: Index, reading: Reading, address: str) -> Added:
    from polyencoders.distributed import add
    from polyencoders.index import Watch

    with _progress("reading") as (bar, advance):
        (task,) = bar.task_ids

        def read(number: int) -> None:
            bar.update(task, total=reading.total)
            advance(number)

        def planned(documents: int, before: int) -> None:
            if before:
                console.print(f"{before:,} of {documents:,} documents were encoded before: going on with the others.")
            bar.reset(task, description="encoding", total=documents, completed=before)

        return add(index, reading, address, watch=Watch(read, planned, advance))


def _how_to_search(path: str) -> None:
    console.print(f"Search it: [bold]polyencoders search {path} --query '...'[/]", highlight=False)


class _Rate(ProgressColumn):
    """Documents a second."""

    def render(self, task: Task) -> Text:
        """Nothing before there is anything to judge by."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def _progress(description: str, total: int | None = None) -> Iterator[tuple[Progress, Callable[[int], None]]]:
    """A bar of documents, with their rate and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} documents"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=60) as bar:
        task = bar.add_task(description, total=total)
        yield bar, lambda number: bar.update(task, advance=number)


def _shown(text: str | None, metadata: dict[str, Any]) -> str:
    extra = "  ".join(f"{name}={value}" for name, value in metadata.items())
    return "  ".join(part for part in (_short(text or "–", 200), _short(extra, 100)) if part)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
