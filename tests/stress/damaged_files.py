"""Files of an index are damaged, one at a time."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from known_documents import (
    LAID_OUT_FROM,
    add,
    changed,
    create,
    first_state,
    problems_of,
    small_layouts,
)
from polyencoders.index import Index, verify


def damage(folder: Path, draw: random.Random, quick: bool = False) -> dict[str, Any]:
    """Bytes are flipped, files are cut short or removed, one at a time. `verify` must name each file."""
    path, state = folder / "index", first_state(LAID_OUT_FROM + 100)
    with small_layouts():
        index = create(path, state)
        for value in range(1, 7):
            replaced = dict.fromkeys(draw.sample(sorted(state), 60), value)
            add(index, replaced)
            changed(state, replaced)
            gone = draw.sample(sorted(state), 10)
            index.delete(gone)
            changed(state, dict.fromkeys(gone))
            if value == 3:
                index.compact(timedelta(milliseconds=1))
    problems = verify(path) + problems_of(Index.open(path), state, draw)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    # A hint that the engine does not need, and an empty lock: whatever is in them, nothing may be lost.
    idle = [name for name in names if name.endswith(("latest_version_hint.json", ".lock"))]
    counts: Counter[str] = Counter({"files": len(names), "of which hold nothing": len(idle)})
    for name in tqdm(names, desc="damaged files"):
        file = path / name
        content = file.read_bytes()
        for how, damaged in _damaged(name, content, draw, quick):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            try:
                found = verify(path)
                if name in idle:
                    found += problems_of(Index.open(path), state, draw)
                    counts["holds nothing, and did no harm"] += not found
                    problems += [f"{name}, {how}: {one}" for one in found]
                    continue
                named = any(name in one for one in found)
                counts[how] += 1
                counts[f"{how}, found"] += bool(found)
                counts[f"{how}, named"] += named
                if not named:
                    problems.append(f"{name}, {how}: " + (f"not named, but {found}" if found else "not found"))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the engine's panics are no Exceptions
                problems.append(f"{name}, {how}: {error!r} in place of a report")
            finally:
                file.write_bytes(content)
    problems += [f"after all was put back: {one}" for one in verify(path)]
    layout = [name for name in names if name.startswith("search/")]
    for name in draw.sample(layout, 2 if quick else len(layout)):
        file = next((path / "search").glob(f"*/{Path(name).name}"))
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with small_layouts():
            Index.open(path).compact()
        wrong = verify(path) + problems_of(Index.open(path), state, draw)
        counts["layouts mended by compact"] += not wrong
        problems += [f"{name}, after compact: {one}" for one in wrong]
    return {**counts, "problems": problems}


def _damaged(name: str, content: bytes, draw: random.Random, quick: bool) -> list[tuple[str, bytes | None]]:
    """The kinds of damage, and what the file then holds; None: it is missing."""
    ways: list[tuple[str, bytes | None]] = [("missing", None)]
    if not content:
        return ways
    places = [draw.randrange(len(content))]
    places += [] if quick else [0, len(content) // 2, len(content) - 1]
    places += draw.sample(range(6, 80), 1 if quick else 20) if name.endswith(".npy") else []  # in the header
    for at in places:
        bit = 1 << draw.randrange(8)
        ways.append(("flipped", content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]))
    return [*ways, ("cut short", content[: len(content) // 2]), ("cut short", b"")]
