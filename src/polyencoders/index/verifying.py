"""Whether an index is whole: every file as it was written, every document readable and consistent."""

import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from polyencoders.errors import IndexingError
from polyencoders.index import storage
from polyencoders.index.documents import text_hash_of
from polyencoders.index.layout import newest
from polyencoders.index.table import Table, checksums_of, vectors_in


def verify(
    path: str | os.PathLike[str],
    advance: Callable[[int], object] = lambda read: None,
    storage_options: Mapping[str, str] | None = None,
) -> list[str]:
    """Find what is wrong with an index: a sentence for each problem, none when it is whole.

    The checksum of every file is compared with that of what was written, and every document is read. `advance` is
    called with numbers of bytes read; `storage_options` are as for `Index.create`. Raises `IndexingError` if there is
    no index.

    >>> verify("answers")  # doctest: +SKIP
    []
    """
    if not storage.is_index(path, storage_options):
        raise IndexingError(f"{path}: there is no index to verify: it has no {storage.TABLE}.lance")
    there = storage.existing(path, storage_options)
    found = list(checksums_of(there).check(advance))
    try:
        table = Table.open(there)
        found += _of_documents(table.at(table.version))
    except IndexingError as error:
        found.append(str(error))
    except Exception as error:  # the readers of damaged contents raise anything
        found.append(f"the documents cannot be checked: {' '.join(str(error).split())}")
    return found


def _of_documents(table: Table) -> Iterator[str]:
    layout = None
    try:
        layout = newest(table.storage)
    except IndexingError as error:
        yield str(error)
    order = np.argsort(layout.row_ids) if layout is not None else np.empty(0, dtype=np.int64)
    ids = []
    number = 0
    for batch in table.batches(["id", "text", "text_hash", "vector"]):
        vectors = vectors_in(batch)
        for i in np.flatnonzero(~np.isfinite(vectors).all(1)):
            yield f"document {batch['id'][i].as_py()!r}: its vector has numbers that are not finite"
        for id, text, kept in zip(*(batch[name].to_pylist() for name in ("id", "text", "text_hash")), strict=True):
            if text is not None and text_hash_of(text) != kept:
                yield f"document {id!r}: its text is not the one that was encoded"
        ids.append(np.array([int(text_hash_of(id.as_py())[:16], 16) for id in batch["id"]], dtype=np.uint64))
        if layout is not None:
            rows = batch["_rowid"].to_numpy()
            places = order[np.minimum(np.searchsorted(layout.row_ids, rows, sorter=order), len(order) - 1)]
            held = layout.row_ids[places] == rows
            differ = (layout.vectors[places[held]] != vectors[held]).any(1)
            if differ.any():
                yield f"{layout.folder.name}: {int(differ.sum())} vectors are not those of the table"
        number += len(batch)
    twice = number - len(np.unique(np.concatenate(ids))) if ids else 0
    if twice:
        yield f"{twice:,} documents have the id of another"
    if number != len(table):
        yield f"the table says that it has {len(table):,} documents, and {number:,} can be read"
