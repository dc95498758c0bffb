"""The public API: the names of the modules that the reference shows, listed in docs/reference/index.md.

python tools/api.py    # writes the list again, after a change that was meant
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
LIST = REFERENCE / "index.md"
DIRECTIVE = re.compile(r"^::: (\S+)(?:\n    options:\n      members: \[(.*)\])?", re.MULTILINE)


def public() -> dict[str, list[str]]:
    """The public names by module: those that a page of the reference names, else the module's `__all__`.

    A function that has its module's name, and is public in the package above, is shown by its module.
    """
    found: dict[str, set[str]] = {}
    for page in sorted(REFERENCE.glob("*.md")):
        for module, members in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            names = members.split(", ") if members else defined(module)
            package, _, last = module.rpartition(".")
            if names == [last] and last in defined(package):
                module = package
            found.setdefault(module, set()).update(names)
    return {module: sorted(names) for module, names in sorted(found.items())}


def defined(module: str) -> list[str]:
    """The names in a module's `__all__`, or without one those of its classes and functions."""
    path = ROOT / "src" / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [
        node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]


def listed() -> str:
    """The list in Markdown."""
    lines = ["| module | names |", "|---|---|"]
    lines += [f"| `{module}` | {', '.join(f'`{name}`' for name in names)} |" for module, names in public().items()]
    return "\n".join(lines)


def written() -> str:
    """What the list in docs/reference/index.md says."""
    return LIST.read_text(encoding="utf-8").split("<!-- api:begin -->\n")[1].split("\n<!-- api:end -->")[0]


def on_post_build(config: Any) -> None:
    """Stops MkDocs, which calls this (mkdocs.yml), where a public name is not shown by the reference."""
    pages = "".join(page.read_text(encoding="utf-8") for page in Path(config.site_dir, "reference").glob("*.html"))
    for module, names in public().items():
        for name in names:
            shown = (f"{module}.{name}", f"{module}.{name}.{name}")
            if not any(f'id="{place}"' in pages for place in shown):
                raise LookupError(f"the reference does not show {module}.{name}")


if __name__ == "__main__":
    before, after = re.split(r"(?s)<!-- api:begin -->.*<!-- api:end -->", LIST.read_text(encoding="utf-8"))
    LIST.write_text(f"{before}<!-- api:begin -->\n{listed()}\n<!-- api:end -->{after}", encoding="utf-8")
