"""The disk of an index is full."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from known_documents import (
    Change,
    D,
    Journal,
    add,
    changed,
    counts_sent,
    create,
    first_state,
    problems_of,
    settled,
    small_layouts,
    start,
)
from polyencoders.errors import IndexingError
from polyencoders.index import Index, verify


def full(folder: Path, draw: random.Random, quick: bool = False, rounds: int | None = None) -> dict[str, Any]:
    """An index on a disk that becomes full, is given room, and becomes full again."""
    rounds = rounds or (1 if quick else 6)
    with _disk(folder / "disk", 4 if rounds > 1 else 2) as grow:
        how = "a tmpfs of a few MB" if grow is not None else "RLIMIT_FSIZE: no file above a size"
        return {"how": how, **_full(folder, draw, rounds, grow)}


def _full(folder: Path, draw: random.Random, rounds: int, grow: Callable[[int], object] | None) -> dict[str, Any]:
    path, state = folder / "disk" / "index", first_state(100)
    with small_layouts():
        create(path, state)
    counts: Counter[str] = Counter(rounds=rounds)
    problems: list[str] = []
    message = ""
    for turn in tqdm(range(rounds), desc="a full disk"):
        journal = folder / f"full-{turn}.jsonl"
        child, pipe = start(_fill, path, journal, 1_000 * (turn + 1), None if grow else (turn + 1) * 300_000)
        try:
            some, error = pipe.recv()
        except EOFError:
            child.join()
            some, error = {}, f"the writer crashed: it ended with {child.exitcode}"
        child.join()
        counts.update(some)
        wrong = [error] if error else []
        pending: list[Change] = []
        for entry in Journal.read(journal):
            if "chunks" in entry:
                pending = entry["chunks"]
            elif "done" in entry:
                for chunk in pending:
                    changed(state, chunk)
                counts["acknowledged chunks"] += 1
                pending = []
            else:
                counts["errors that say so"] += 1
                message = entry["error"]
        wrong += [f"while it is full: {one}" for one in verify(path)]
        index = Index.open(path)
        wrong += settled(index, state, pending)[1] + problems_of(index, state, draw)
        if grow is not None:
            grow(4 + 3 * (turn + 1))
        wrong += [f"with room: {one}" for one in verify(path)]
        with small_layouts():
            again = {id: value for chunk in pending for id, value in chunk.items()} or {f"0-again.{turn}": turn}
            add(Index.open(path), again)
            changed(state, again)
        wrong += [f"going on: {one}" for one in verify(path) + problems_of(Index.open(path), state, draw)]
        problems += [f"round {turn}: {one}" for one in wrong]
    counts["documents at the end"] = len(state)
    return {**counts, "said": message.replace(str(path), "INDEX"), "problems": problems}


def _fill(path: Path, journal: Path, first: int, largest: int | None, pipe: Any) -> None:
    """Add documents until there is no room, then try every other operation."""
    with counts_sent(pipe) as counts, small_layouts():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        log, index = Journal(journal), Index.open(path)
        for value in range(first, first + 10_000):
            size = 200 if largest is None else 200 * (value - first + 1)  # where files are limited, ever larger ones
            change: Change = {f"{value % 20}-{value}.{place}": value for place in range(size)}
            log.write({"chunks": [change]})
            try:
                add(index, change)
            except IndexingError as error:
                message = str(error)
                break
            log.write({"done": True})
            counts["chunks until it was full"] += 1
        else:
            raise AssertionError("the disk is never full")
        log.write({"error": message})
        if "\n" in message:
            raise AssertionError(f"not one line: {message}")
        for _ in range(5):  # tried again, it fails again or succeeds as a whole
            try:
                add(index, change)
                log.write({"done": True})
                break
            except IndexingError:
                pass
        index.search(np.ones((1, 4, D)), k=5)
        try:
            index.compact()
        except IndexingError:
            counts["compactions refused"] += 1


@contextmanager
def _disk(path: Path, size: int) -> Iterator[Callable[[int], object] | None]:
    """A file system of so many megabytes, and what makes it larger; or None, where none can be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(path)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}m", str(path)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
