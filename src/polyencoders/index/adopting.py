"""Vectors that exist already, as documents: from arrays, `.npy` files, Parquet files and LanceDB tables."""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.errors import DataError
from polyencoders.index.adding import with_vectors
from polyencoders.index.arrays import as_array
from polyencoders.index.documents import Document, columns_of_documents, document, made
from polyencoders.index.engine import connect
from polyencoders.index.table import Table

AT_ONCE = 8_192

Batch = tuple[list[Document], NDArray[np.float32]]


def batches(vectors: Any, rows: Iterable[Any] | None, vector: str, text: str, id: str) -> Iterator[Batch]:
    """Documents and their vectors `(n, d)`, some at a time, of what `Index.from_vectors` takes.

    An array's documents without `rows` have no text, and their places are their ids.
    """
    if isinstance(vectors, str | os.PathLike):
        path = Path(vectors)
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if path.suffix == ".npy":
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        elif path.suffix == ".parquet":
            yield from _of_table(_parquet(path), str(path), vector, text, id)
            return
        elif path.suffix == ".lance":
            vectors = connect(str(path.parent)).open_table(path.stem)
        else:
            raise DataError(f"{path}: vectors are read from .npy and .parquet files, and from .lance tables")
    if hasattr(vectors, "search") and hasattr(vectors, "schema"):
        stream = vectors.search().to_batches(batch_size=AT_ONCE)
        yield from _of_table(stream, f"the table {vectors.name}", vector, text, id)
        return
    try:
        array = as_array(vectors.float() if hasattr(vectors, "detach") else vectors)
    except ValueError:
        raise DataError("vectors: expected floating-point numbers (n, d), got vectors of different lengths") from None
    yield from _of_array(array, rows)


def put(table: Table, documents: list[Document], vectors: NDArray[np.float32]) -> None:
    """Write documents with their vectors as one version; of several with the same id, the last."""
    last = list({one.id: place for place, one in enumerate(documents)}.values())
    if len(last) < len(documents):
        documents, vectors = [documents[place] for place in last], vectors[last]
    with table.changing():
        table.put(with_vectors(columns_of_documents(documents, table.schema), vectors))


def _of_array(vectors: NDArray[Any], rows: Iterable[Any] | None) -> Iterator[Batch]:
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise DataError(f"vectors: expected floating-point numbers (n, d), got {vectors.dtype} {vectors.shape}")
    stream = iter(rows) if rows is not None else None
    for start in range(0, len(vectors), AT_ONCE):
        some = _checked(vectors[start : start + AT_ONCE], start, "the array")
        if stream is None:
            yield [_without_text({}, start + i) for i in range(len(some))], some
            continue
        documents = [document(row, start + i) for i, row in enumerate(islice(stream, len(some)))]
        if len(documents) < len(some):
            raise DataError(f"there are {len(vectors):,} vectors and only {start + len(documents):,} documents")
        yield documents, some
    if stream is not None and next(stream, None) is not None:
        raise DataError(f"there are more documents than the {len(vectors):,} vectors")


def _of_table(stream: Iterable[pa.RecordBatch], what: str, vector: str, text: str, id: str) -> Iterator[Batch]:
    start = 0
    for batch in stream:
        names = batch.schema.names
        if vector not in names:
            raise DataError(f"{what}: no column {vector!r} with vectors; it has {', '.join(names)}")
        column = batch[vector]
        listed = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
        if not (pa.types.is_fixed_size_list(column.type) or listed) or column.null_count:
            raise DataError(f"{what}: {vector!r} is {column.type}; expected a list of numbers in every row")
        widths = set(np.diff(np.asarray(column.offsets)).tolist()) if listed else set()
        if len(widths) > 1:
            raise DataError(f"{what}: vectors of different lengths: {sorted(widths)}")
        if not len(batch):
            continue
        flat = column.flatten().to_numpy(zero_copy_only=False)
        vectors = _checked(flat.reshape(len(batch), -1), start, what)
        kept = [name for name in names if name != vector and not name.startswith("_")]
        documents = []
        for i, row in enumerate(batch.select(kept).to_pylist()):
            fields = {("text" if name == text else "id" if name == id else name): value for name, value in row.items()}
            fields = {name: value for name, value in fields.items() if name not in ("text_hash", "content_hash")}
            made_of = document if isinstance(fields.get("text"), str) else _without_text
            documents.append(made_of(fields, start + i))
        yield documents, vectors
        start += len(batch)


def _without_text(fields: Mapping[str, Any], place: int) -> Document:
    metadata = {name: value for name, value in fields.items() if name not in ("id", "text")}
    given = fields.get("id")
    return made(place if given is None else given, None, metadata, f"document {place}")


def _checked(vectors: NDArray[Any], start: int, what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        some = np.ascontiguousarray(vectors, dtype=np.float32)
    wrong = np.flatnonzero(~np.isfinite(some).all(1))
    if len(wrong):
        raise DataError(f"{what}: vector {start + int(wrong[0])} has numbers that are not finite in float32")
    return some


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet

    try:
        yield from pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=AT_ONCE)
    except pa.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None
