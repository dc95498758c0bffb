"""The package is light to import, and the examples of docs/data.md run."""

import re
import subprocess
import sys
from pathlib import Path

import polyencoders.data


def test_light_to_import():
    heavy = "{'torch', 'datasets', 'scipy', 'transformers', 'numpy'}"
    code = f"import sys, polyencoders.data; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_documentation(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (tmp_path / "mine.jsonl").write_text(re.search(r"```json\n(.*?)```", page, re.S)[1], encoding="utf-8")
    assert len(polyencoders.data.read_jsonl(tmp_path / "mine.jsonl")) == 4
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], {})
    assert capsys.readouterr().out == "Splits(train=16, validation=2, test=2)\n['1', '2', '3']\n"
