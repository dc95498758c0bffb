"""Documents whose text, vector and score follow from an id and a value, an index of them, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from polyencoders.index import Index, searching
from polyencoders.index import index as index_module

D = 32
LAID_OUT_FROM = 500
"""The number of documents from which an index has a layout here, so that faults meet layouts, too."""
TOLERANCE = 1e-4
"""How far a score may be from that of the vectors in float64. Scores are about 30."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["polyencoders.index"])  # not the engine: its threads do not survive a fork

State = dict[str, int]
"""The value of each document in the index, by id."""
Change = dict[str, int | None]
"""New values by id. None: deleted."""


def text_of(id: str, value: int) -> str:
    return f"The text of {id} as of {value}."


@lru_cache(100_000)
def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(D, dtype=np.float32)


def vectors_of(texts: Iterable[str]) -> np.ndarray:
    return np.stack([vector_of(text) for text in texts])


def document(id: str, value: int) -> dict[str, Any]:
    """The document as it is added. The part of the id before the dash is its field `part`."""
    return {"id": id, "text": text_of(id, value), "part": int(id.split("-")[0]), "value": value}


def documents(state: Change) -> list[dict[str, Any]]:
    return [document(id, value) for id, value in state.items() if value is not None]


def first_state(number: int) -> State:
    return {f"{place % 20}-{place}": 0 for place in range(number)}


def scores_of(codes: np.ndarray, texts: list[str]) -> np.ndarray:
    """The paper's score of each text for the codes `(m, d)`, in float64: `sum_i softmax_i(y_i . c) y_i . c`."""
    products = vectors_of(texts).astype(np.float64) @ codes.T
    weights = np.exp(products - products.max(1, keepdims=True))
    return (weights * products).sum(1) / weights.sum(1)


@contextmanager
def small_layouts() -> Iterator[None]:
    """Layouts and fast searches of few documents."""
    with (
        patch.object(index_module, "LAID_OUT_FROM", LAID_OUT_FROM),
        patch.object(searching, "LEAST", 50),
    ):
        yield


def create(path: Path, state: State) -> Index:
    rows = documents(state)
    return Index.from_vectors(path, vectors_of(row["text"] for row in rows), rows)


def add(index: Index, state: Change, **options: Any) -> Any:
    """Add the documents of a state, with the vectors of their texts."""

    def encode(texts: list[str], advance: Callable[[int], object]) -> np.ndarray:
        advance(len(texts))
        return vectors_of(texts)

    return index.add(documents(state), encode=encode, **options)


def changed(state: State, change: Change) -> None:
    """Apply a change to the state."""
    for id, value in change.items():
        if value is None:
            state.pop(id, None)
        else:
            state[id] = value


def stored(index: Index, ids: Iterable[str]) -> tuple[State, list[str]]:
    """The values of those ids that the index holds, and problems with their texts or metadata."""
    state, wrong = {}, []
    for row in index.get(list(ids)):
        state[row["id"]] = row["value"]
        if row != document(row["id"], row["value"]):
            wrong.append(f"{row['id']} is not what was added: {row}")
    return state, wrong


def problems_of(index: Index, state: State, draw: random.Random) -> list[str]:
    """How the index differs from the state, by its documents and by a search."""
    there, wrong = stored(index, state)
    lost, other = state.keys() - there.keys(), [id for id in there if there[id] != state[id]]
    if lost:
        wrong.append(f"{len(lost)} of {len(state)} documents are lost, such as {min(lost)}")
    if other:
        wrong.append(f"{len(other)} of {len(state)} documents are not the latest, such as {other[0]}")
    if len(index) != len(state):
        wrong.append(f"it has {len(index)} documents in place of {len(state)}")
    if wrong or not state:
        return wrong
    codes = np.random.default_rng(draw.getrandbits(32)).standard_normal((2, draw.choice((1, 4)), D))
    ids = list(state)
    texts = [text_of(id, value) for id, value in state.items()]
    for query, answer in zip(codes, index.search(codes, k=20), strict=True):
        scores = scores_of(query, texts)
        best = np.argsort(-scores)[: len(answer)]
        if len(answer) != min(20, len(ids)) or [hit.id for hit in answer] != [ids[i] for i in best]:
            wrong.append("a search did not find the best documents")
        elif np.abs(scores[best] - [hit.score for hit in answer]).max() > TOLERANCE:
            wrong.append("a search found other scores than those of the vectors")
    return wrong


class Journal:
    """What a writer began and what it finished, on the disk before it goes on."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, entry: dict[str, Any]) -> None:
        os.write(self.descriptor, (json.dumps(entry) + "\n").encode())
        os.fsync(self.descriptor)

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        return [json.loads(line) for line in lines[:-1]]  # the last one is empty, or was not written to its end


def settled(index: Index, state: State, pending: list[Change]) -> tuple[int, list[str]]:
    """The number of chunks of an unfinished operation that are in the index, and problems; the state is updated.

    Each chunk must be there as a whole or not at all, and none without those before it.
    """
    wrong = []
    there, _ = stored(index, {id for chunk in pending for id in chunk})
    done = 0
    for place, chunk in enumerate(pending):
        if all(there.get(id) == value for id, value in chunk.items()):
            if done < place:
                wrong.append(f"chunk {place} is there, and one before it is not")
            changed(state, chunk)
            done += 1
        elif any(there.get(id) != state.get(id) for id in chunk):
            new = sum(there.get(id) == value for id, value in chunk.items())
            wrong.append(f"chunk {place} is torn: {new} of its {len(chunk)} documents are there")
    return done, wrong


def start(target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """A process that runs the target, whose last argument is its end of a pipe; and our end of it."""
    ours, theirs = processes.Pipe()
    child = processes.Process(target=target, args=(*arguments, theirs), daemon=True)
    child.start()
    theirs.close()
    return child, ours


@contextmanager
def counts_sent(pipe: Any) -> Iterator[Counter[str]]:
    """Counts of a process, sent when the block ends, with the traceback of an error or None."""
    counts, error = Counter[str](), None
    try:
        yield counts
    except BaseException:
        error = traceback.format_exc()
    pipe.send((dict(counts), error))
