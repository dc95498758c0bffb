"""Shows the examples of docstrings as code, wherever they stand in one. mkdocstrings calls it (mkdocs.yml)."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around each run of lines that begins with `>>> `."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object's docstring as it is read."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
