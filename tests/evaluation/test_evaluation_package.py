"""The folder as a whole: light to import, and its page's example runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import polyencoders.evaluation


def test_light_to_import():
    heavy = "{'torch', 'datasets', 'scipy', 'transformers', 'sentence_transformers', 'ir_measures', 'rich'}"
    code = f"import sys, polyencoders.evaluation; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names():
    for name in polyencoders.evaluation.__all__:
        assert getattr(polyencoders.evaluation, name).__doc__ or name == "Task"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = polyencoders.evaluation.Nothing


def test_readme(capsys):
    page = Path(polyencoders.evaluation.__file__).with_name("README.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], {})
    printed = capsys.readouterr().out
    assert printed.startswith("0.500 [0.")
    assert "'R@5/20'" in printed
