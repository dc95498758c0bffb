"""An index searched with one query at a time, from any number of threads.

What the retrievers of the three libraries share. Knows index and models; nothing of those libraries.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from polyencoders.encoders.locks import lock_of
from polyencoders.encoders.queries import Query, check_query
from polyencoders.errors import ModelError

if TYPE_CHECKING:
    from polyencoders.index import Answer, Index


def opened(index: Index | str | os.PathLike[str], model: Any = None) -> Index:
    """An index with its model loaded: itself, or the one in a folder.

    Parameters
    ----------
    index
        Open, or its folder.
    model
        For a folder: the model that made the index, or where to load that from; by default from where it was then.

    Raises
    ------
    IndexingError
        There is no index, or it cannot be read.
    ModelError
        The model cannot be loaded, is not the one that made the index, or is given with an open index.
    """
    if isinstance(index, str | os.PathLike):
        # Here: who only ranks needs no index engine.
        from polyencoders.index import Index

        index = Index.open(index, model)
    elif model is not None:
        raise ModelError(f"model goes with the folder of an index; {index!r} is open, and has its own")
    index.loaded_model()  # now, and not by two searches at once
    return index


def search(index: Index, query: Query, k: int, where: str | None, mode: str) -> Answer:
    """`Index.search` with one query, a text or a list of turns; the model is used by one thread at a time."""
    model = index.loaded_model()
    with lock_of(model):
        codes = model.encode_queries([check_query(query)])
    answer: Answer = index.search(codes, k, where, mode)[0]
    return answer
