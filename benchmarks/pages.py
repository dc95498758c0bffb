"""Tables into pages of the documentation, between the marks `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def put(name: str, lines: Sequence[str], *pages: str) -> None:
    """Replace what stands between the marks of a name in each of the pages, paths from the project's root."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    for page in pages:
        path = ROOT / page
        before, rest = path.read_text(encoding="utf-8").split(begin)
        after = rest.split(end)[1]
        path.write_text("\n".join([before + begin, *lines, end + after]), encoding="utf-8")
