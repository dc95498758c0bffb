"""Two processes write an index while four read it."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from known_documents import (
    TOLERANCE,
    D,
    add,
    counts_sent,
    create,
    scores_of,
    small_layouts,
    start,
    text_of,
)
from polyencoders.index import Index, verify

BATCHES, SIZE = 40, 25
"""Documents are written and deleted in batches, each as a whole."""


def crowd(folder: Path, draw: random.Random, quick: bool = False, seconds: float | None = None) -> dict[str, Any]:
    """Two writers and four readers of one index. Every reader must see whole batches and right scores."""
    seconds = seconds or (8 if quick else 60)
    path = folder / "index"
    with small_layouts():
        before = create(path, {f"{batch}-{place}": 0 for batch in range(BATCHES) for place in range(SIZE)}).version
    targets = [_write, _write, _read, _read, _read, _read]
    at_work = [start(target, path, seconds, place, draw.getrandbits(32)) for place, target in enumerate(targets)]
    for _, pipe in at_work:
        pipe.recv()
    for _, pipe in at_work:
        pipe.send(time.time())
    counts: Counter[str] = Counter(writers=2, readers=4)
    problems = []
    for _ in tqdm(range(round(seconds)), desc="many processes", unit="s"):
        time.sleep(1)
    for child, pipe in at_work:
        try:
            some, error = pipe.recv() if pipe.poll(60) else ({}, "it did not end")
        except EOFError:
            some, error = {}, f"it ended with {child.exitcode}"
        counts.update(some)
        problems += [error] if error else []
        child.kill()
        child.join()
    with small_layouts():
        index = Index.open(path)
        counts["versions made"] = index.version - before
        problems += verify(path)
        _check(index, np.random.default_rng(0).standard_normal((1, 4, D)), draw, Counter())
    return {**counts, "problems": problems}


def _end(pipe: Any, seconds: float) -> float:
    """Wait until all processes are ready; gives the time at which to end."""
    pipe.send("ready")
    return float(pipe.recv()) + seconds


def _write(path: Path, seconds: float, writer: int, seed: int, pipe: Any) -> None:
    """Add, replace and delete whole batches, each in one version."""
    draw = random.Random(seed)
    with counts_sent(pipe) as counts, small_layouts():
        index = Index.open(path)
        ends, compacted = _end(pipe, seconds), time.time()
        value = writer
        while time.time() < ends:
            value += 2  # no other writer has it
            batches = draw.sample(range(BATCHES), draw.choice((1, 1, 2, 3)))
            if draw.random() < 0.75:
                change = {f"{batch}-{place}": value for batch in batches for place in range(SIZE)}
                done = add(index, change, chunk=SIZE)
                counts["batches written"] += len(batches)
                counts["documents added"] += done.added
                counts["documents replaced"] += done.replaced
            elif draw.random() < 0.5:
                counts["documents deleted"] += index.delete(where=f"part = {batches[0]}")
            else:
                counts["documents deleted"] += index.delete([f"{batches[0]}-{place}" for place in range(SIZE)])
            if writer == 0 and time.time() > compacted + 3:
                index.compact(timedelta(minutes=1))
                compacted = time.time()
                counts["compactions"] += 1
            counts["operations"] += 1


def _read(path: Path, seconds: float, reader: int, seed: int, pipe: Any) -> None:
    """Search, and check each answer. One of the readers verifies the files, too."""
    draw, codes = random.Random(seed), np.random.default_rng(seed)
    with counts_sent(pipe) as counts, small_layouts():
        index = Index.open(path)
        version, ends = 0, _end(pipe, seconds)
        while time.time() < ends:
            index.refresh()
            if index.version < version:
                raise AssertionError(f"version {index.version} after {version}")
            counts["versions seen"] += index.version != version
            if reader == 2 and draw.random() < 0.1:
                counts["verified meanwhile"] += 1
                if wrong := verify(path):
                    raise AssertionError(f"verify, beside writers: {wrong}")
            version = index.version
            for _ in range(draw.randint(1, 3)):
                _check(index, codes.standard_normal((1, draw.choice((1, 4)), D)), draw, counts)


def _check(index: Index, codes: np.ndarray, draw: random.Random, counts: Counter[str]) -> None:
    """Whether batches are whole, scores are right, and exact and fast search agree with them."""
    some = sorted(draw.sample(range(BATCHES), draw.choice((1, 3, 15))))
    where = draw.choice((None, f"part IN ({', '.join(map(str, some))})"))
    everything = index.search(codes, k=BATCHES * SIZE + 1, where=where)[0]
    batches: dict[int, list[Any]] = defaultdict(list)
    for hit in everything:
        batches[hit.metadata["part"]].append(hit)
    for batch, hits in batches.items():
        values = {hit.metadata["value"] for hit in hits}
        if len(values) > 1 or {hit.id for hit in hits} != {f"{batch}-{place}" for place in range(SIZE)}:
            raise AssertionError(f"batch {batch} in version {index.version}: {len(hits)} documents of values {values}")
        if where is not None and batch not in some:
            raise AssertionError(f"batch {batch} was found with the filter {where}")
    counts["batches looked at"] += len(batches)
    right = scores_of(codes[0], [hit.text for hit in everything]) if len(everything) else np.empty(0)
    for hit, score in zip(everything, right, strict=True):
        if hit.text != text_of(hit.id, hit.metadata["value"]) or abs(hit.score - score) > TOLERANCE:
            raise AssertionError(f"{hit} has the score {score}")
    best = index.search(codes, k=10, where=where)[0]
    if [hit.id for hit in best] != [hit.id for hit in everything][:10] or not best.certified:
        raise AssertionError(f"the ten best of version {index.version} are not the best of all")
    fast = index.search(codes, k=10, where=where, mode="fast", share=draw.choice((0.05, 0.3)))[0]
    found = {hit.id for hit in fast}
    scores = {hit.id: hit.score for hit in everything}
    if any(abs(scores[hit.id] - hit.score) > TOLERANCE for hit in fast):
        raise AssertionError(f"fast, version {index.version}: the scores are not those of the vectors")
    if any(score > fast.bound + TOLERANCE for id, score in scores.items() if id not in found):
        raise AssertionError(f"fast, version {index.version}: a document that was missed is above the bound")
    if fast.certified and [hit.id for hit in fast] != [hit.id for hit in best]:
        raise AssertionError(f"fast, version {index.version}: certified, and not the best")
    counts["searches"] += 3
    counts["fast searches that left documents out"] += fast.looked_at < len(everything)
