"""The documentation's Python examples run as they stand, loading the backbone as its readers would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/migrating.md",
    "docs/the-index.md",
    "docs/integrations.md",
    "docs/data.md",
)
SERVER = "http://localhost:8080"
"""What asks a server there is run in tests/serving."""


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


def _examples() -> list[tuple[str, str]]:
    return [
        (f"{page}-{number}", code)
        for page in PAGES
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL), 1)
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
