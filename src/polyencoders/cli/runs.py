"""Runs written down as they end, a line of JSON each, so that a long comparison can be interrupted."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_runs(file: Path) -> list[dict[str, Any]]:
    """Read the runs in a file, if it exists. A line that was cut short is left out, so its run is done again."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def append_runs(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append runs to a file, on a new line even where the last one was cut short."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write("".join(json.dumps(row) + "\n" for row in rows).encode())
