"""The command line where PyTorch is not installed, and that it is not imported where it is not needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_PYTORCH = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "sentence_transformers", "datasets", "accelerate"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from polyencoders.cli import main
main()
"""


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    (cwd / "pairs.jsonl").write_text(json.dumps({"query": "Tea?", "positive": "Yes."}) + "\n")
    (cwd / "recipe.yaml").write_text("data: {train: pairs.jsonl}\noutput: out\n")
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["train", "--data", "pairs.jsonl"],
        ["train", "recipe.yaml"],
        ["distill", "--data", "pairs.jsonl", "--teacher", "models/cross"],
        ["pretrain", "--data", "chitchat"],
        ["upgrade", "--index", "answers", "--data", "pairs.jsonl"],
        ["compare", "--data", "pairs.jsonl"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_trains_names_the_extra(arguments: list[str], tmp_path: Path) -> None:
    done = run(WITHOUT_PYTORCH, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("polyencoders: this command needs the package ")
    assert 'pip install "polyencoders[train]"' in done.stderr


def test_a_pytorch_model_names_the_extra(tiny_backbone: str, tmp_path: Path) -> None:
    done = run(WITHOUT_PYTORCH, "rank", tiny_backbone, "--query", "a", "--documents", "recipe.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{tiny_backbone} is a PyTorch model" in done.stderr
    assert 'pip install "polyencoders[train]"' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rank", "nowhere", "--query", "a", "--documents", "absent.txt"], "absent.txt: no such file"),
        (["rank", "nowhere", "--query", "a", "--documents", "recipe.yaml"], "nowhere: no such model directory"),
        (["evaluate", "nowhere", "--data", "absent.jsonl"], "absent.jsonl: neither a file nor"),
        (["search", "nowhere", "--query", "a"], "nowhere: no such index"),
        (["serve"], "nothing to serve"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_what_is_not_there_is_named_before_anything_is_loaded(arguments: list[str], said: str, tmp_path: Path) -> None:
    script = "import sys; from polyencoders.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = run(script, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "False\n"), done.stderr
    assert said in done.stderr
