"""Runs written down as they end, a line of JSON each: what a long comparison that was cut short goes on from.

Knows a file; nothing of what a run is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_runs(file: Path) -> list[dict[str, Any]]:
    """The runs that a file has, if it is there. A line that was cut short is none of them: its run is done again."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def append_runs(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write runs down, after those that are there, and not on a line that was cut short."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write("".join(json.dumps(row) + "\n" for row in rows).encode())
