"""The house: imports run downwards only, without circles, and `import polyencoders` pulls in nothing heavy."""

import ast
import json
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import polyencoders

ROOT = Path(polyencoders.__file__).parent
CELLAR = {"checks", "errors", "files", "store"}
MAY_IMPORT = {
    "checks": {"errors"},
    "errors": set(),
    "files": {"errors"},
    "store": {"errors", "files"},
    "scoring": set(),
    "encoders": {"", "scoring", *CELLAR},  # "": the package itself says who computes a model
    "data": CELLAR,
    "models": {"encoders", "scoring", *CELLAR},
    "runtime": {"encoders", "scoring", *CELLAR},
    "index": {"encoders", "scoring", *CELLAR},
    "evaluation": {"encoders", "index", "scoring", "data", *CELLAR},
    "export": {"models", "runtime", "encoders", *CELLAR},
    "training": {"models", "encoders", "data", "index", "evaluation", "scoring", *CELLAR},
    "integrations": {"index", "encoders", *CELLAR},
    "serving": {"", "index", "encoders", "scoring", *CELLAR},  # "": its version
    "distributed": {"serving", "encoders", "data", "index", "scoring", *CELLAR},
}
"""What each floor knows. Every floor may use the cellar; the command line knows everything, and nobody knows it."""
WITHOUT_PYTORCH = set(MAY_IMPORT) - {"models", "export", "training"}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imported(path, *, lazily=True, for_type_checkers=True):
    """The modules that a file imports: when it is imported itself, in its functions, and for type checkers alone."""
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
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes.extend(node.body if lazily else ())
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes.extend([*(node.body if for_type_checkers else ()), *node.orelse])
        else:
            nodes.extend(ast.iter_child_nodes(node))


def floor(module):
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_downwards(module):
    theirs = {name for name in imported(MODULES[module]) if name.split(".")[0] == "polyencoders"}
    floors = {floor(name) for name in theirs} - {floor(module)}
    if floor(module) in MAY_IMPORT:
        assert floors <= MAY_IMPORT[floor(module)], f"{module} imports {sorted(floors)}"
    else:
        assert floor(module) in ("", "cli", "__main__"), f"{floor(module)} is a floor that this test does not know"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_pytorch_is_for_models_their_export_and_training(module):
    if floor(module) not in WITHOUT_PYTORCH or module in ("polyencoders.scoring.torch_score",):
        return
    heavy = {"torch", "transformers", "sentence_transformers", "accelerate", "datasets"}
    found = {name.split(".")[0] for name in imported(MODULES[module], lazily=False, for_type_checkers=False)} & heavy
    assert not found, f"{module} imports {sorted(found)}"


def test_there_are_no_circles():
    """Nor any hidden in a function: what is imported lazily counts as well."""
    graph = {
        module: {name for name in imported(path, for_type_checkers=False) if name in MODULES and name != module}
        for module, path in MODULES.items()
        if module not in ("polyencoders", "polyencoders.__main__")
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_checks_above_see_imports():
    block_search = MODULES["polyencoders.scoring.block_search"]
    assert "polyencoders.scoring.reference" in set(imported(block_search, lazily=False))
    assert "polyencoders.scoring.torch_score" in set(imported(block_search)) - set(imported(block_search, lazily=False))
    assert "polyencoders.models" in set(imported(MODULES["polyencoders"]))
    assert "polyencoders.models" not in set(imported(MODULES["polyencoders"], for_type_checkers=False))


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
