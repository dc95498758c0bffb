"""Documents added as one version: planned first, encoded chunk by chunk by whoever will, then put in together.

What is encoded lies in a folder of the index beside the table until then, by its contents: a call that goes on after an
interruption finds it there, and with other documents or another model it is not found. Knows plans, files and the
table; who encodes the chunks, and where, is for the caller to say.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.errors import IndexingError
from polyencoders.files import whole_directory
from polyencoders.index.adding import CHUNK, Added, vectors_of, with_vectors
from polyencoders.index.fragments import Written, commit, storage_of, write
from polyencoders.index.planning import BORROWED, Plan
from polyencoders.index.rows import Document
from polyencoders.index.storage import TABLE
from polyencoders.index.table import Table, conformed

FOLDER = "staging"
ATTEMPTS = 4
"""Workers that may end over the same documents, before these are taken for the reason."""
_ABOUT, _LENT = "about.json", "lent.arrow"

Encode = Callable[[list[str], Callable[[int], object]], NDArray[np.float32]]
"""`n` texts, and what to call with numbers of texts that are done, to `(n, d)`."""


@dataclass(frozen=True)
class Task:
    """A chunk to be encoded: in any process that sees the index's folder."""

    index: Path
    version: int
    """Of the table: whose texts lend their vectors."""
    number: int
    documents: int
    """How many there are."""
    superseded: tuple[int, ...]
    """Places of those that are not to be written, as a later chunk replaces them."""
    lent: tuple[str, ...]
    """Hashes of texts whose vectors other chunks take from this one."""
    schema: pa.Schema
    """Of the table when all is added."""
    storage: str
    key: str
    """By which what comes of it is known."""

    @property
    def planned(self) -> Path:
        """The file with its documents."""
        return _planned(self.index, self.number)

    @property
    def folder(self) -> Path:
        """Where what comes of it is written, whole or not at all."""
        return self.index / FOLDER / "done" / self.key

    @property
    def done(self) -> bool:
        """Whether it is there."""
        return (self.folder / _ABOUT).exists()

    def run(self, table: Table, encode: Encode) -> int:
        """Encode its documents, and write them; gives how many texts were encoded.

        Parameters
        ----------
        table
            The index's, at the task's version.
        encode
            The model's document side.

        Raises
        ------
        IndexingError
            This machine does not see the folder, it could not be written, or documents have ended several workers.
        """
        if self.done:
            return 0
        try:
            self._begin()
            with pa.OSFile(str(self.planned)) as file:
                rows = pa.ipc.open_file(file).read_all()
        except FileNotFoundError:
            raise IndexingError(
                f"{self.index}: the machine {socket.gethostname()} does not see what is to be encoded: the index must "
                "lie in a folder that all machines have under the same path, and that they may write to"
            ) from None
        own = np.flatnonzero(~rows[BORROWED].to_numpy())
        columns = (rows[name].take(own).to_pylist() for name in ("id", "text", "text_hash", "content_hash"))
        documents = [Document(id, text, {}, *hashes) for id, text, *hashes in zip(*columns, strict=True)]
        vectors, encoded = vectors_of(table, documents, encode, lambda done: None)
        written = ~np.isin(own, self.superseded)
        try:
            with whole_directory(self.folder) as scratch:
                about: dict[str, Any] = {"written": None}
                if written.any():
                    kept = rows.drop_columns([BORROWED]).take(own[written])
                    kept = conformed(with_vectors(kept, vectors[written], self.schema), self.schema)
                    about["written"] = write(scratch, kept, self.storage).as_json()
                if self.lent:
                    _lend(scratch / _LENT, documents, vectors, set(self.lent))
                (scratch / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            raise IndexingError(f"{self.folder}: could not be written on {socket.gethostname()}: {error}") from error
        return encoded

    def written(self) -> Written | None:
        """What it came to; None where a later chunk replaces all of it."""
        about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
        return Written.of_json(self.folder, about["written"]) if about["written"] is not None else None

    def lent_vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        """Hashes of texts, and their vectors, that other chunks take from this one."""
        with pa.OSFile(str(self.folder / _LENT)) as file:
            rows = pa.ipc.open_file(file).read_all()
        flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return rows["text_hash"].to_pylist(), flat.reshape(len(rows), -1)

    def _begin(self) -> None:
        with self.planned.with_suffix(".begun").open("ab") as file:
            file.write(b".")
            if file.tell() > ATTEMPTS:
                raise IndexingError(
                    f"{self.index}: {ATTEMPTS} workers have ended while they encoded documents of chunk {self.number} "
                    f"({self.documents} documents from {self._first()!r} on): too little memory, most likely"
                )

    def _first(self) -> str:
        with pa.OSFile(str(self.planned)) as file:
            return str(pa.ipc.open_file(file).read_all()["id"][0])


Work = Callable[[list[Task]], Iterable[tuple[int, int]]]
"""Has tasks run, in any order: gives of each, as it ends, its number and how many texts were encoded."""


@dataclass
class Watch:
    """Who is told how far it has got."""

    read: Callable[[int], object] = lambda documents: None
    """With numbers of documents that were read and checked."""
    planned: Callable[[int, int], object] = lambda to_encode, encoded_before: None
    """Once, with numbers of documents: those to be written, and those of them that an earlier call has encoded."""
    encoded: Callable[[int], object] = lambda documents: None
    """With numbers of documents that are encoded."""


def add_at_once(
    table: Table, rows: Iterable[Any], work: Work, maker: str, chunk: int = CHUNK, watch: Watch | None = None
) -> Added:
    """Add documents, or replace those whose ids are there, as one version.

    Parameters
    ----------
    table
        Of the index.
    rows
        As `add` takes them.
    work
        Has the chunks encoded.
    maker
        What tells the model, and how it computes, from any other.
    chunk
        Documents that are encoded together.
    watch
        Is told how far it has got.

    Returns
    -------
    Added
        `encoded` counts the texts that this call had encoded.

    Raises
    ------
    DataError
        A document cannot be used: nothing is added.
    IndexingError
        It could not be written, or another process is adding to this index in the same way.
    """
    watch = watch or Watch()
    index = in_a_folder(table.path)
    table.refresh()
    with _folder(index) as folder:
        at = table.at(table.version)
        plan = Plan(at)
        tasks = _tasks(index.resolve(), at.version, plan, rows, maker, chunk, folder, watch)
        done = Added(unchanged=plan.unchanged)
        before = {task.number for task in tasks if task.done}
        watch.planned(
            sum(task.documents for task in tasks), sum(task.documents for task in tasks if task.number in before)
        )
        left = [task for task in tasks if task.number not in before]
        for number, encoded in work(left) if left else ():
            done.encoded += encoded
            watch.encoded(tasks[number].documents)
        if tasks:
            written = [*_written(tasks), *_borrowed(folder, plan, tasks)]
            with table.changing():
                table.add_columns(plan.schema)
                done.replaced = table.commit(lambda: commit(index / f"{TABLE}.lance", written))
                done.added = sum(one.rows for one in written) - done.replaced
            done.replaced += sum(map(len, plan.superseded.values()))
        shutil.rmtree(folder / "done", ignore_errors=True)
    return done


def in_a_folder(place: Path | str) -> Path:
    """Where an index is that machines can share so.

    Raises
    ------
    IndexingError
        It is in object storage.
    """
    if isinstance(place, str):
        raise IndexingError(
            f"{place}: a cluster fills an index in a folder that its machines share, and this one is in object "
            "storage: `polyencoders index add` without --ray adds to it, on as many machines at once as you like, each "
            "a part of the documents"
        )
    return place


def _tasks(
    index: Path, version: int, plan: Plan, rows: Iterable[Any], maker: str, chunk: int, folder: Path, watch: Watch
) -> list[Task]:
    """Read all documents, and write down what is to be done with them."""
    digests: list[str] = []
    sizes = []
    for number, planned in enumerate(plan.chunks(rows, chunk, watch.read)):
        with pa.OSFile(str(_planned(index, number)), "wb") as file, pa.ipc.new_file(file, planned.schema) as writer:
            writer.write_table(planned)
        digests.append(_digest(*(planned[name].to_pylist() for name in ("id", "content_hash", BORROWED))))
        sizes.append(len(planned))
    storage = storage_of(index / f"{TABLE}.lance") if sizes else ""
    schema = plan.schema.remove_metadata()
    tasks = []
    for number, size in enumerate(sizes):
        superseded = tuple(sorted(plan.superseded.get(number, ())))
        lent = tuple(sorted(plan.lent.get(number, ())))
        key = _digest(maker, digests[number], superseded, lent, str(schema), storage)
        tasks.append(Task(index, version, number, size, superseded, lent, schema, storage, key))
    return tasks


def _written(tasks: list[Task]) -> Iterator[Written]:
    for task in tasks:
        if (written := task.written()) is not None:
            yield written


def _borrowed(folder: Path, plan: Plan, tasks: list[Task]) -> Iterator[Written]:
    """The documents whose texts were encoded in an earlier chunk than theirs, in files of their own."""
    if not plan.lent:
        return
    number = sum(map(len, plan.lent.values()))
    dimension = plan.table.dimension
    vectors = np.memmap(folder / "planned" / "lent.f32", dtype=np.float32, mode="w+", shape=(number, dimension))
    places: dict[str, int] = {}
    for chunk in plan.lent:
        hashes, some = tasks[chunk].lent_vectors()
        vectors[len(places) : len(places) + len(some)] = some
        places.update(zip(hashes, range(len(places), len(places) + len(some)), strict=True))
    for task in tasks:
        with pa.OSFile(str(task.planned)) as file:
            rows = pa.ipc.open_file(file).read_all()
        wanted = rows[BORROWED].to_numpy().copy()
        wanted[list(task.superseded)] = False
        if wanted.any():
            rows = rows.drop_columns([BORROWED]).filter(pa.array(wanted))
            found = np.array(vectors[[places[text_hash] for text_hash in rows["text_hash"].to_pylist()]])
            rows = conformed(with_vectors(rows, found, task.schema), task.schema)
            yield write(folder / "borrowed" / str(task.number), rows, task.storage)


def _lend(file: Path, documents: list[Document], vectors: NDArray[np.float32], lent: set[str]) -> None:
    places = {one.text_hash: place for place, one in enumerate(documents) if one.text_hash in lent}
    flat = pa.array(vectors[list(places.values())].reshape(-1))
    rows = pa.table({"text_hash": list(places), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, rows.schema) as writer:
        writer.write_table(rows)


@contextmanager
def _folder(index: Path) -> Iterator[Path]:
    """The folder beside the table, for this process alone; what was encoded into it before is there."""
    from filelock import FileLock, Timeout

    folder = index / FOLDER
    try:
        with FileLock(index / ".staging.lock", timeout=0):
            _clean(folder)
            (folder / "planned").mkdir(parents=True)
            try:
                yield folder
            finally:
                _clean(folder)
    except Timeout:
        raise IndexingError(
            f"{index}: another process is adding documents to it on a cluster; wait for it, or add them without"
        ) from None


def _clean(folder: Path) -> None:
    """Leave what was encoded, and nothing else."""
    for name in ("planned", "borrowed"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)


def _planned(index: Path, number: int) -> Path:
    return index / FOLDER / "planned" / f"{number}.arrow"


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
