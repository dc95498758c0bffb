"""The native kernel is built where there is a compiler, and the package installs where there is none."""

import email
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def sources(tmp_path):
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    return tmp_path


def build(sources, compiler):
    return subprocess.run(
        [sys.executable, "setup.py", "build", "--build-base", "out"],
        cwd=sources,
        env={**os.environ, "CC": compiler, "CXX": compiler},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_the_package_is_built_all_the_same(sources):
    process = build(sources, "/nowhere/no-compiler")
    assert process.returncode == 0, process.stderr
    assert 'building extension "polyencoders.scoring._kernel" failed' in process.stdout + process.stderr
    built = {path.name for path in (sources / "out").rglob("*") if path.is_file()}
    assert "prepared.py" in built
    assert not any(name.startswith("_kernel.") and not name.endswith(".pyi") for name in built)
    assert {"py.typed", "_kernel.pyi", "README.md"} <= built


def test_the_readme_on_an_index_links_into_the_repository(sources):
    project = sources / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(f'{text}\n[project.urls]\nSource = "https://example.org/owner/name"\n', encoding="utf-8")
    subprocess.run([sys.executable, "setup.py", "--quiet", "egg_info"], cwd=sources, check=True, capture_output=True)
    [told] = (sources / "src").glob("*.egg-info/PKG-INFO")
    message = email.message_from_bytes(told.read_bytes())
    assert message["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\((.*?)\)", message.get_payload())
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    assert "https://example.org/owner/name/raw/main/docs/images/architectures.svg" in links
    assert "https://example.org/owner/name/blob/main/docs/index.md" in links
