"""Is everything ready for a release? Checks what a script can, and says what is left for a person.

python tools/release.py              # before tagging
python tools/release.py --tag v0.1.0   # in the workflow: the tag is this version
"""

from __future__ import annotations

import argparse
import datetime
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT = """\
Left for a person with the keys, once:
  1. In pyproject.toml add [project.urls] with Source = "https://github.com/OWNER/NAME", so that the README's links
     work on PyPI; in mkdocs.yml set site_url and repo_url.
  2. On pypi.org, Your account, Publishing: add a pending publisher for polyencoders, with OWNER, NAME, the workflow
     wheels.yml and the environment pypi.
  3. In the repository's settings. Pages: the source is "GitHub Actions". Environments: pypi and github-pages, both
     open to tags v* (github-pages admits main alone until told). Security: private vulnerability reporting.
For every release:
  4. Today's date for {version} in CHANGELOG.md, and as date-released in CITATION.cff; commit, and push to main.
  5. make lint test site lowest audit self-test
  6. On the page Actions run the workflow Wheels on main: it builds, and publishes nothing. On the systems that you
     have, install a wheel of its artifacts, and run tests/native/check_wheel.py outside the clone.
  7. make release (this command) on a clean clone of main: it says "ready".
  8. git tag -s v{version} -m v{version} && git push origin v{version}. The workflow publishes wheels, sdist, site.
  9. In a fresh environment: pip install polyencoders=={version}, and tests/native/check_wheel.py again.
 10. Open the next one: __version__ in src/polyencoders/__init__.py, version in CITATION.cff, and
     "## {next} (unreleased)" in CHANGELOG.md.
"""


def problems(tag: str | None) -> Iterator[str]:
    """What is not as a release needs it, a line each."""
    version = _version()
    if tag is not None and tag != f"v{version}":
        yield f"the tag is {tag}, and src/polyencoders/__init__.py says {version}"
    entry = re.search(r"^## (\S+) \((.*)\)$", _read("CHANGELOG.md"), re.MULTILINE)
    if entry is None or entry[1] != version:
        yield f"CHANGELOG.md: the newest entry is not {version}"
    elif not _is_date(entry[2]):
        yield f"CHANGELOG.md: {version} has no date (YYYY-MM-DD), but {entry[2]!r}"
    elif f'date-released: "{entry[2]}"' not in _read("CITATION.cff"):
        yield f"CITATION.cff: date-released is not {entry[2]}"
    if f"\nversion: {version}\n" not in _read("CITATION.cff"):
        yield f"CITATION.cff: the version is not {version}"
    project = tomllib.loads(_read("pyproject.toml"))
    pythons = {name.rsplit(" ", 1)[1] for name in project["project"]["classifiers"] if " :: 3." in name}
    wheels = {f"3.{name[3:5]}" for name in project["tool"]["cibuildwheel"]["build"].split()}
    if pythons != wheels:
        yield f"pyproject.toml: classifiers name Python {sorted(pythons)}, cibuildwheel builds for {sorted(wheels)}"
    api = runpy.run_path(str(ROOT / "tools" / "api.py"))
    if api["written"]() != api["listed"]():
        yield "docs/reference/index.md does not list the public names: python tools/api.py"
    for line in _git("status", "--porcelain"):
        yield f"not committed: {line}"
    if tag is None and f"v{version}" in _git("tag"):
        yield f"v{version} is tagged already: raise __version__"


def _version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', _read("src/polyencoders/__init__.py"), re.MULTILINE)
    assert found, "src/polyencoders/__init__.py has no __version__"
    return found[1]


def _is_date(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def main() -> int:
    """Print what is wrong, or what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", help="the tag that is being released")
    found = list(problems(parser.parse_args().tag))
    for problem in found:
        print(f"- {problem}")
    if not found:
        version = _version()
        major, minor, *_ = version.split(".")
        print(f"polyencoders {version} is ready, as far as a script can tell.\n")
        print(LEFT.format(version=version, next=f"{major}.{int(minor) + 1}.0"))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
