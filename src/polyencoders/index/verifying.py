"""Whether an index is whole: every file as it was written, every document readable and consistent.

Knows the files, the table and the layout; nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from polyencoders.errors import IndexingError
from polyencoders.index.layout_storage import newest
from polyencoders.index.rows import text_hash_of
from polyencoders.index.storage import Storage
from polyencoders.index.table import Table, checksums_of


def problems(storage: Storage, advance: Callable[[int], object] = lambda read: None) -> Iterator[str]:
    """What is wrong with an index, in a sentence each; nothing when it is whole.

    Parameters
    ----------
    storage
        The index.
    advance
        Called with the number of bytes read, as its files are.
    """
    yield from checksums_of(storage).check(advance)
    try:
        table = Table.open(storage)
        yield from _of_documents(table.at(table.version))
    except IndexingError as error:
        yield str(error)
    except Exception as error:  # damaged contents make those who read them raise anything
        yield f"the documents cannot be checked: {' '.join(str(error).split())}"


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
        vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
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
