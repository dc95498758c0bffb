"""Documents added here, a chunk at a time. Each chunk is a version of the index.

A chunk that is written is acknowledged. An interruption loses what was encoded of the next one; the same call goes on
from there, as documents that are there already are recognised by their contents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyencoders.index.planning import CHUNK, Encode, Plan, Vectors, vectors_of, with_vectors
from polyencoders.index.table import Table


@dataclass
class Added:
    """What an `add` has done so far."""

    added: int = 0
    """New documents."""
    replaced: int = 0
    """Documents whose id was there with other contents."""
    unchanged: int = 0
    """Documents that were there with the same contents, or came twice."""
    encoded: int = 0
    """Texts that the model read; the vectors of the others were there."""

    @property
    def total(self) -> int:
        """How many documents were given."""
        return self.added + self.replaced + self.unchanged


def add(
    table: Table,
    rows: Iterable[Any],
    encode: Encode,
    advance: Callable[[int], object] = lambda documents: None,
    chunk: int = CHUNK,
) -> Added:
    """Add documents, or replace those whose ids are there; see `Index.add`."""
    done = Added()
    table.refresh()
    plan = Plan(table)
    for read, planned in plan.chunks(rows, chunk):
        unchanged = read - len(planned)
        done.unchanged += unchanged
        advance(unchanged)
        if not len(planned):
            continue
        version = table.version
        vectors, encoded = vectors_of(table, planned, encode, advance)
        with table.changing():
            if table.version != version:  # another writer may have added some of the texts meanwhile
                made = dict(zip(planned["text"].to_pylist(), vectors, strict=True))

                def again(texts: list[str], _: object, made: dict[str, Any] = made) -> Vectors:
                    return np.stack([made[text] for text in texts])

                vectors, _ = vectors_of(table, planned, again)
            inserted, updated = table.put(with_vectors(planned, vectors))
        plan.begin()
        done.added += inserted
        done.replaced += updated
        done.encoded += encoded
    return done
