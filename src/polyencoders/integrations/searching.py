"""Shared by the components of all three libraries: opening and searching an index, and the turns of a query."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from polyencoders.encoders.locks import lock_of
from polyencoders.encoders.queries import Query, check_query
from polyencoders.errors import ModelError

if TYPE_CHECKING:
    from polyencoders.encoders import Reranker, Words
    from polyencoders.index import Answer, Index


def opened(index: Index | str | os.PathLike[str], model: Any = None) -> Index:
    """Return an index, open or in a folder, with its model loaded. Only with a folder is `model` given.

    Raises `IndexingError` if there is no readable index, `ModelError` if the model does not fit.
    """
    if isinstance(index, str | os.PathLike):
        from polyencoders.index import Index  # here, because rerankers need no index engine

        index = Index.open(index, model)
    elif model is not None:
        raise ModelError(f"model goes with the folder of an index; {index!r} is open, and has its own")
    index.loaded_model()  # now, and not by two searches at once
    return index


def search(
    index: Index,
    query: Query,
    k: int,
    where: str | None,
    mode: str,
    reranker: Reranker | None = None,
    words: bool | float | Words | None = None,
) -> Answer:
    """Search an index for one query. One thread at a time uses each model."""
    model = index.loaded_model()
    with lock_of(model):
        codes = model.encode_queries([check_query(query)])
    with lock_of(reranker.model) if reranker is not None else nullcontext():
        found = index.search(codes, k, where, mode, words=words, texts=[query], rerank=reranker or False)
        answer: Answer = found[0]
    return answer


def turns(query: Any, message: type, text_of: Callable[[Any], str | None]) -> Any:
    """Return a query as our models take it: the texts of a library's messages, without those that are None or empty."""
    if not isinstance(query, list | tuple) or not any(isinstance(turn, message) for turn in query):
        return query
    texts = [text_of(turn) if isinstance(turn, message) else turn for turn in query]
    return [text for text in texts if text]
