"""A writer of an index is killed again and again."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from known_documents import (
    LAID_OUT_FROM,
    Change,
    Journal,
    State,
    add,
    changed,
    create,
    first_state,
    problems_of,
    settled,
    small_layouts,
    start,
)
from polyencoders.index import Index, verify


def kills(folder: Path, draw: random.Random, quick: bool = False, runs: int | None = None) -> dict[str, Any]:
    """One index, whose writer is killed again and again. Nothing that the writer was told is done may be lost."""
    runs = runs or (5 if quick else 50)
    path, state, first, layouts = folder / "index", first_state(LAID_OUT_FROM + 100), 1, set[str]()
    with small_layouts():
        create(path, state)
    counts, hit = Counter({"runs": runs}), Counter[str]()
    problems: list[str] = []
    waiting = _waiting_writer(path, folder / "0.jsonl", state, first, draw)
    for run in tqdm(range(runs), desc="killed writers"):
        journal, (child, pipe) = folder / f"{run}.jsonl", waiting
        pipe.send(None)
        _wait_for(journal, child)
        time.sleep(draw.uniform(0, 0.6 if quick else 2.0))
        if not child.is_alive():
            problems.append(f"run {run}: the writer ended by itself, with {child.exitcode}")
        child.kill()
        child.join()
        pending: list[Change] = []
        kind = None
        for entry in Journal.read(journal):
            if "begun" in entry:
                kind, pending = entry["begun"], entry["chunks"]
                counts["operations begun"] += 1
                first += 1
            else:
                for chunk in pending:
                    changed(state, chunk)
                counts["acknowledged operations"] += 1
                kind, pending = None, []
        unfinished = {layout.name for layout in (path / "search").glob(".*")} - layouts
        layouts |= unfinished
        counts["killed while a layout was written"] += bool(unfinished)
        wrong = verify(path)
        index = Index.open(path)
        there, torn = settled(index, state, pending)
        if kind is not None:
            hit[kind] += 1
            counts["killed during an operation"] += 1
            if pending:
                counts[("nothing", "some chunks", "everything")[(there > 0) + (there == len(pending))] + " of it"] += 1
        wrong += torn + problems_of(index, state, draw)
        counts["documents compared"] += len(state)
        problems += [f"run {run}, during {kind}: {one}" for one in wrong]
        if wrong:
            break
        if run + 1 < runs:
            waiting = _waiting_writer(path, folder / f"{run + 1}.jsonl", state, first, draw)
    with small_layouts():  # the index can still be written
        index = Index.open(path)
        add(index, {"0-last": first})
        state["0-last"] = first
        index.compact(timedelta(milliseconds=1))
        problems += verify(path) + problems_of(index, state, draw)
    counts["documents at the end"] = len(state)
    return {**counts, "killed during": dict(hit), "problems": problems}


def _waiting_writer(path: Path, journal: Path, state: State, first: int, draw: random.Random) -> tuple[Any, Any]:
    return start(_write_until_killed, path, journal, dict(state), first, draw.getrandbits(32))


def _wait_for(journal: Path, child: Any, seconds: float = 60) -> None:
    """Return when the writer has begun its first operation."""
    ends = time.monotonic() + seconds
    while not (journal.exists() and journal.stat().st_size > 0):
        if time.monotonic() > ends or not child.is_alive():
            raise RuntimeError(f"the writer did not begin (it ended with {child.exitcode})")
        time.sleep(0.002)


def _write_until_killed(path: Path, journal: Path, state: State, first: int, seed: int, pipe: Any) -> None:
    """Add, replace, delete and compact, with an entry in the journal before and after each operation."""
    import lancedb  # noqa: F401  so that the first operation does not wait for it

    pipe.recv()
    draw, log = random.Random(seed), Journal(journal)
    with small_layouts():
        index = Index.open(path)
        for value in range(first, first + 1_000_000):
            kind, chunks, size = _operation(draw, state, value)
            log.write({"begun": kind, "chunks": chunks})
            _apply(index, kind, chunks, size, draw)
            log.write({"done": kind})
            for chunk in chunks:
                changed(state, chunk)


def _operation(draw: random.Random, state: State, value: int) -> tuple[str, list[Change], int]:
    """The kind of the next operation, what each of its versions changes, and the size of its chunks."""
    kinds = ("add", "replace", "delete", "delete where", "compact")
    many = len(state) > 2_500
    kind = draw.choices(kinds, (1, 6, 6, 6, 3) if many else (10, 6, 2, 1, 3))[0]
    if kind == "compact" or not state:
        return "compact", [], 0
    if kind == "delete where":
        part = draw.choice([id.split("-")[0] for id in draw.sample(sorted(state), min(5, len(state)))])
        return kind, [{id: None for id in state if id.startswith(part + "-")}], 0
    number = draw.randint(1, 300)
    if kind == "add":
        ids = [f"{value % 20}-{value}.{place}" for place in range(number)]
    else:
        ids = draw.sample(sorted(state), min(number, len(state)))
    if kind == "delete":
        return kind, [dict.fromkeys(ids)], 0
    size = draw.choice((20, 50, 100, 300))
    return kind, [dict.fromkeys(ids[at : at + size], value) for at in range(0, len(ids), size)], size


def _apply(index: Index, kind: str, chunks: list[Change], size: int, draw: random.Random) -> None:
    if kind == "compact":
        index.compact(draw.choice((timedelta(milliseconds=1), timedelta(days=1))))
    elif kind == "delete where":
        index.delete(where=f"part = {next(iter(chunks[0])).split('-')[0]}")
    elif kind == "delete":
        index.delete(list(chunks[0]))
    else:
        add(index, {id: value for chunk in chunks for id, value in chunk.items()}, chunk=size)
