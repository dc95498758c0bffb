"""The house: imports run downwards only, without circles, and `import polyencoders` pulls in nothing heavy."""

import ast
import json
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import polyencoders

ROOT = Path(polyencoders.__file__).parent
FOUNDATION = {"errors", "files"}
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "scoring": set(),
    "models": {"scoring", *FOUNDATION},
    "data": FOUNDATION,
    "index": {"models", "scoring", *FOUNDATION},
    "evaluation": {"models", "index", "scoring", "data", *FOUNDATION},
    "training": {"models", "data", "index", "evaluation", "scoring", *FOUNDATION},
    "integrations": {"index", "models", *FOUNDATION},
    "distributed": {"serving", "training", "models", "data", "index", "scoring", *FOUNDATION},
}
"""What each floor knows; training asks evaluation how well it does, and every floor may use the foundation."""
KNOWN_BY_NOBODY = {"cli", "serving", "distributed", "integrations"}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imported(path, *, at_import_time):
    """The modules of ours that a file imports, anywhere in it or only when it is imported itself."""
    nodes = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from package import module` names a module; `from module import name` does not.
            yield from (
                whole if (whole := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            )
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not at_import_time or not is_left_out_at_import_time(node):
            nodes.extend(ast.iter_child_nodes(node))


def is_left_out_at_import_time(node):
    """A function's body, or what is for type checkers alone."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )


def floor(module):
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_downwards(module):
    theirs = {name for name in imported(MODULES[module], at_import_time=False) if name.split(".")[0] == "polyencoders"}
    floors = {floor(name) for name in theirs} - {floor(module)}
    if floor(module) in MAY_IMPORT:
        assert floors <= MAY_IMPORT[floor(module)], f"{module} imports {sorted(floors)}"
    elif module not in ("polyencoders", "polyencoders.__main__"):
        assert floor(module) in KNOWN_BY_NOBODY, f"{floor(module)} is a floor that this test does not know"
    if floor(module) != "cli" and module != "polyencoders.__main__":  # the command line knows everything
        above = KNOWN_BY_NOBODY - ({"serving"} if floor(module) == "distributed" else set())
        assert not floors & above, f"{module} imports {sorted(floors)}"


def test_there_are_no_circles():
    graph = {
        module: {name for name in imported(path, at_import_time=True) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_checks_above_see_imports():
    assert "polyencoders.scoring" in set(imported(MODULES["polyencoders.models.poly_encoder"], at_import_time=True))
    lazy = set(imported(MODULES["polyencoders"], at_import_time=False))
    assert "polyencoders.models" in lazy - set(imported(MODULES["polyencoders"], at_import_time=True))


def test_importing_polyencoders_is_light(run_python):
    code = "import sys, json, polyencoders, polyencoders.integrations; dir(polyencoders); "
    code += "print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(run_python(code))}
    assert "polyencoders" in loaded
    assert not loaded & {
        "torch",
        "transformers",
        "sentence_transformers",
        "datasets",
        "numpy",
        "gradio",
        "haystack",
        "lancedb",
        "langchain_core",
        "llama_index",
        "ray",
        "typer",
    }


def test_the_models_are_names_of_the_package():
    for name in ("ArcII", "BiEncoder", "CrossEncoder", "PolyEncoder"):
        assert getattr(polyencoders, name).__name__ == name
        assert name in dir(polyencoders)
    with pytest.raises(AttributeError, match="Bi_encoder"):
        polyencoders.Bi_encoder  # noqa: B018
