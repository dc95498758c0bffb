"""The walk in CONTRIBUTING.md names files and functions that are there, in at most eight steps each."""

import ast
import re
from pathlib import Path

import pytest

import polyencoders

ROOT = Path(polyencoders.__file__).parent
TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALKS = dict(re.findall(r"^### (.+)\n\n((?:\d\. .+\n)+)", TEXT, re.M))
NAMED = re.compile(r"`([\w/]+\.(?:py|cpp))` `([\w.]+)`")


def defined(path):
    """The functions and classes of a file, methods by `Class.method`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            yield from (f"{node.name}.{one.name}" for one in getattr(node, "body", ()) if hasattr(one, "name"))


def test_there_are_four_walks():
    assert len(WALKS) == 4


@pytest.mark.parametrize("walk", WALKS)
def test_every_step_exists(walk):
    steps = WALKS[walk].splitlines()
    assert len(steps) <= 8
    for step in steps:
        named = NAMED.findall(step)
        assert named, step
        for file, name in named:
            path = ROOT / file
            assert path.is_file(), step
            if path.suffix == ".py":
                assert name in set(defined(path)), step
            else:
                assert re.search(rf"\b{name}\(", path.read_text(encoding="utf-8")), step
