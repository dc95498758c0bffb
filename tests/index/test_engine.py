"""LanceDB is imported without its REST catalogue, and whoever wants that later gets all of it."""

import subprocess
import sys
from pathlib import Path

CATALOGUE = "lance_namespace_urllib3_client"


def run(code: str, *paths: Path) -> str:
    code = f"import sys; sys.path[:0] = {[str(path) for path in paths]}\n{code}"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_an_index_is_opened_without_the_client_of_a_catalogue(tmp_path: Path) -> None:
    said = run(
        "from polyencoders.index.engine import connect\n"
        f"connect({str(tmp_path)!r}).create_table('documents', [{{'id': 'a'}}])\n"
        f"print(any(name.startswith('{CATALOGUE}.api.') for name in sys.modules))\n"
        f"import {CATALOGUE}\n"
        f"print({CATALOGUE}.DataApi.__name__, connect({str(tmp_path)!r}).open_table('documents').count_rows())\n"
    )
    assert said.split() == ["False", "DataApi", "1"]


def test_a_release_that_needs_all_of_the_catalogue_gets_it(tmp_path: Path) -> None:
    fakes = {
        CATALOGUE: "NEEDED = 1",
        "lancedb": f"from {CATALOGUE} import NEEDED\nSession = dict\ndef connect(*_, **__): return NEEDED",
    }
    for name, code in fakes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    assert run("from polyencoders.index.engine import connect\nprint(connect('.'))", tmp_path) == "1\n"
