"""Documents added as one version: planned first, encoded chunk by chunk by any workers, then committed together.

What is encoded lies beside the table until then, under a hash of what it was made from. A call that goes on after an
interruption finds it there; one with other documents or another model does not.
"""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather

from polyencoders.errors import IndexingError, MissingExtraError
from polyencoders.files import whole_directory, whole_file
from polyencoders.index.adding import BORROWED, CHUNK, Added, Encode, Plan, Vectors, vectors_of, with_vectors
from polyencoders.index.storage import TABLE
from polyencoders.index.table import Table, conformed, vectors_in

FOLDER = "staging"
ATTEMPTS = 4  # So many workers may end over the same documents; then the documents are taken for the reason
_ABOUT, _LENT = "about.json", "lent.arrow"


@dataclass(frozen=True)
class Written:
    """Documents in a file of the table's own format (Lance), which is not part of the table yet."""

    folder: Path  # The file is in `data/` below it
    columns: list[str]  # The names of its columns, in order
    fragment: dict[str, Any]  # Lance's description of the file

    @property
    def rows(self) -> int:
        return int(self.fragment["physical_rows"])

    @property
    def file(self) -> Path:
        """The file itself."""
        return self.folder / "data" / str(self.fragment["files"][0]["path"])


@dataclass(frozen=True)
class Job:
    """A chunk to be encoded, by any process that sees the index's folder."""

    index: Path
    version: int  # The version of the table whose texts lend their vectors
    number: int
    documents: int  # How many documents it has
    superseded: tuple[int, ...]  # Places of documents that are not written, as a later chunk replaces them
    lent: tuple[str, ...]  # Hashes of texts whose vectors other chunks take from this one
    schema: pa.Schema  # The table's schema when all chunks are added
    file_format: str
    key: str  # The name of its result: a hash of all that the result depends on

    @property
    def folder(self) -> Path:
        """The folder of its result, which is written whole or not at all."""
        return self.index / FOLDER / "done" / self.key

    @property
    def done(self) -> bool:
        """Whether its result is there."""
        return (self.folder / _ABOUT).exists()

    def run(self, table: Table, encode: Encode) -> int:
        """Encode its documents and write them; `table` is at the job's version. Returns how many texts were encoded.

        Raises IndexingError if this machine cannot use the folder, or the documents have ended several workers.
        """
        if self.done:
            return 0
        try:
            self._begin()
            rows = self.planned()
        except FileNotFoundError:
            raise IndexingError(
                f"{self.index}: the machine {socket.gethostname()} does not see what is to be encoded: the index must "
                "lie in a folder that all machines have under the same path, and that they may write to"
            ) from None
        own = np.flatnonzero(~rows[BORROWED].to_numpy())
        rows = rows.take(own)
        vectors, encoded = vectors_of(table, rows, encode)
        kept = ~np.isin(own, self.superseded)
        try:
            with whole_directory(self.folder) as scratch:
                about: dict[str, Any] = {"written": None}
                if kept.any():
                    written = self.write(scratch, rows.filter(pa.array(kept)), vectors[kept])
                    about["written"] = {"columns": written.columns, "fragment": written.fragment}
                if self.lent:
                    hashes = rows["text_hash"].to_pylist()
                    places = {text_hash: place for place, text_hash in enumerate(hashes) if text_hash in {*self.lent}}
                    lent = with_vectors(pa.table({"text_hash": list(places)}), vectors[list(places.values())])
                    feather.write_feather(lent, str(scratch / _LENT), "uncompressed")
                (scratch / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            raise IndexingError(f"{self.folder}: could not be written on {socket.gethostname()}: {error}") from error
        return encoded

    def planned(self) -> pa.Table:
        return feather.read_table(_planned(self.index, self.number), memory_map=False)

    def write(self, folder: Path, rows: pa.Table, vectors: Vectors) -> Written:
        """Write documents of it, at least one, into a folder of their own."""
        rows = conformed(with_vectors(rows, vectors), self.schema)
        fragments = _lance().fragment.write_fragments(
            rows, str(folder), mode="create", data_storage_version=self.file_format, max_rows_per_file=len(rows)
        )
        if len(fragments) != 1:
            raise ValueError(f"{len(rows)} documents were written into {len(fragments)} files, expected one")
        return Written(folder, rows.schema.names, fragments[0].to_json())

    def written(self) -> Written | None:
        """Its documents as they were written; None if a later chunk replaces all of them."""
        about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))["written"]
        return Written(self.folder, **about) if about is not None else None

    def _begin(self) -> None:
        with _planned(self.index, self.number).with_suffix(".begun").open("ab") as file:
            file.write(b".")
            if file.tell() > ATTEMPTS:
                raise IndexingError(
                    f"{self.index}: {ATTEMPTS} workers have ended while they encoded documents of chunk {self.number} "
                    f"({self.documents} documents from {self.planned()['id'][0].as_py()!r} on): too little "
                    "memory, most likely"
                )


Work = Callable[[list[Job]], Iterable[tuple[int, int]]]
"""Has jobs run, in any order. Yields the number of each as it ends, and how many texts were encoded for it."""


@dataclass
class Watch:
    """Callbacks that are told how far `add_at_once` has got."""

    read: Callable[[int], object] = lambda documents: None
    """Called with numbers of documents that were read and checked."""
    planned: Callable[[int, int], object] = lambda to_encode, encoded_before: None
    """Called once: how many documents are written, and how many of these an earlier call has encoded."""
    encoded: Callable[[int], object] = lambda documents: None  # Called with numbers of documents that are encoded


def add_at_once(
    table: Table, rows: Iterable[Any], work: Work, maker: str, chunk: int = CHUNK, watch: Watch | None = None
) -> Added:
    """Add documents as `Index.add_at_once` does; `maker` tells the model, and how it computes, from any other."""
    watch = watch or Watch()
    index = in_a_folder(table.path)
    table.refresh()
    with _folder(index) as folder:
        plan = Plan(table.at(table.version))
        done = Added()
        jobs = _jobs(index.resolve(), plan, rows, maker, chunk, watch, done)
        left = [job for job in jobs if not job.done]
        to_encode = sum(job.documents for job in jobs)
        watch.planned(to_encode, to_encode - sum(job.documents for job in left))
        for number, encoded in work(left) if left else ():
            done.encoded += encoded
            watch.encoded(jobs[number].documents)
        if jobs:
            written = [one for job in jobs if (one := job.written()) is not None]
            written += _borrowed(folder, plan, jobs)
            with table.changing():
                table.add_columns(plan.schema)
                replaced = table.commit(lambda: _commit(index / f"{TABLE}.lance", written))
            done.added = sum(one.rows for one in written) - replaced
            done.replaced = replaced + sum(map(len, plan.superseded.values()))
        shutil.rmtree(folder / "done", ignore_errors=True)
    return done


def in_a_folder(place: Path | str) -> Path:
    """The folder of an index that machines can share; IndexingError if it is in object storage."""
    if isinstance(place, str):
        raise IndexingError(
            f"{place}: a cluster fills an index in a folder that its machines share, and this one is in object "
            "storage: `polyencoders index add` without --ray adds to it, on as many machines at once as you like, each "
            "a part of the documents"
        )
    return place


def _jobs(index: Path, plan: Plan, rows: Iterable[Any], maker: str, chunk: int, watch: Watch, done: Added) -> list[Job]:
    """Read all documents, and write down what is to be done with them."""
    digests: list[str] = []
    sizes: list[int] = []
    for read, planned in plan.chunks(rows, chunk):
        watch.read(read)
        done.unchanged += read - len(planned)
        if len(planned):
            feather.write_feather(planned, str(_planned(index, len(sizes))), "uncompressed")
            digests.append(_digest(*(planned[name].to_pylist() for name in ("id", "content_hash", BORROWED))))
            sizes.append(len(planned))
    dataset = index / f"{TABLE}.lance"
    file_format = str(_lance().dataset(str(dataset)).data_storage_version) if sizes else ""
    schema = plan.schema.remove_metadata()
    jobs = []
    for number, size in enumerate(sizes):
        superseded = tuple(sorted(plan.superseded.get(number, ())))
        lent = tuple(sorted(plan.lent.get(number, ())))
        key = _digest(maker, digests[number], superseded, lent, str(schema), file_format)
        jobs.append(Job(index, plan.table.version, number, size, superseded, lent, schema, file_format, key))
    return jobs


def _borrowed(folder: Path, plan: Plan, jobs: list[Job]) -> Iterator[Written]:
    """Write the documents whose texts an earlier chunk has encoded into files of their own."""
    if not plan.lent:
        return
    number = sum(map(len, plan.lent.values()))
    dimension = plan.table.dimension
    vectors = np.memmap(folder / "planned" / "lent.f32", dtype=np.float32, mode="w+", shape=(number, dimension))
    places: dict[str, int] = {}
    for chunk in plan.lent:
        rows = feather.read_table(jobs[chunk].folder / _LENT, memory_map=False)
        numbers = range(len(places), len(places) + len(rows))
        vectors[numbers.start : numbers.stop] = vectors_in(rows)
        places.update(zip(rows["text_hash"].to_pylist(), numbers, strict=True))
    for job in jobs:
        rows = job.planned()
        wanted = rows[BORROWED].to_numpy().copy()
        wanted[list(job.superseded)] = False
        if wanted.any():
            rows = rows.filter(pa.array(wanted))
            found = np.array(vectors[[places[text_hash] for text_hash in rows["text_hash"].to_pylist()]])
            yield job.write(folder / "borrowed" / str(job.number), rows, found)


@contextmanager
def _folder(index: Path) -> Iterator[Path]:
    """The folder beside the table, for this process alone, with what was encoded before."""
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


def _commit(dataset: Path, written: Sequence[Written]) -> int:
    """Make files part of a table, in place of the documents with their ids, as one version.

    The caller holds the table's lock; the table has all columns, and no id comes twice. Returns how many were replaced.
    """
    lance = _lance()
    table = lance.dataset(str(dataset))
    removed, updated, replaced = _without(table, written)
    numbers = {field.name(): field.id() for field in table.lance_schema.fields()}
    fresh = []
    for one in written:
        fragment = json.loads(json.dumps(one.fragment))
        (file,) = fragment["files"]
        # A file alone numbers its columns from 0; the table has its own numbers for them.
        file["fields"] = [numbers[one.columns[number]] for number in file["fields"]]
        _put(one.file, dataset / "data" / file["path"])
        fresh.append(lance.FragmentMetadata.from_json(json.dumps(fragment)))
    operation = (
        lance.LanceOperation.Update(removed, updated, fresh, fields_modified=[])
        if replaced
        else lance.LanceOperation.Append(fresh)
    )
    lance.LanceDataset.commit(str(dataset), operation, read_version=table.version)
    return replaced


def _without(table: Any, written: Sequence[Written]) -> tuple[list[int], list[Any], int]:
    """The table's fragments without the documents that are replaced: those that go, and those that lose some."""
    from lance.file import LanceFileReader

    if not table.count_rows():
        return [], [], 0
    read = (LanceFileReader(str(one.file), columns=["id"]).read_all().to_table()["id"] for one in written)
    ids = pa.chunked_array([chunk for some in read for chunk in some.chunks], pa.string())
    there = table.scanner(columns=["id"], with_row_address=True).to_table()
    rows = there.filter(pc.is_in(there["id"], ids))["_rowaddr"].to_numpy()
    removed, updated = [], []
    for number in np.unique(rows >> 32).tolist():
        left = table.get_fragment(number).delete_rows((rows[rows >> 32 == number] & 0xFFFFFFFF).tolist())
        if left is None:
            removed.append(number)
        else:
            updated.append(left)
    return removed, updated, len(rows)


def _put(file: Path, target: Path) -> None:
    """Put a file in its place and leave it where it was, so that an interrupted commit can be done again."""
    if target.exists() and target.stat().st_size == file.stat().st_size:
        return  # a commit was interrupted after this
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(file, target)
    except OSError:  # a file system without links
        with whole_file(target) as scratch:
            shutil.copyfile(file, scratch)


def _lance() -> Any:
    try:
        import lance
        import lance.fragment
    except ImportError:
        raise MissingExtraError("pylance", "ray") from None
    return lance
