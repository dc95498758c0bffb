"""What is public is what the reference shows: listed, there, documented, and typed."""

import inspect
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
api = runpy.run_path(str(ROOT / "tools" / "api.py"))
NAMES = [(module, name) for module, names in api["public"]().items() for name in names]


def test_the_list_is_the_reference():
    assert api["written"]() == api["listed"](), "a public name came or went: if that was meant, python tools/api.py"


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda part: part)
def test_a_public_name_is_there_documented_and_typed(module, name):
    thing = getattr(pytest.importorskip(module), name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert thing.__module__.startswith("polyencoders."), f"{name} is somebody else's"
        assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
    if inspect.isfunction(thing):
        for parameter in inspect.signature(thing).parameters.values():
            assert parameter.annotation is not parameter.empty, f"{module}.{name}({parameter.name}) has no type"


def test_every_package_with_public_names_has_a_place():
    source = ROOT / "src"
    packages = [path.parent for path in source.rglob("__init__.py") if "\n__all__ = " in path.read_text("utf-8")]
    named = {".".join(package.relative_to(source).parts) for package in packages}
    assert named - set(api["public"]()) == {"polyencoders.index.storage"}  # a room of the index, for nobody else
