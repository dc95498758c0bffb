"""What the site needs beyond its pages: results, notebooks, and links that work here as they do in the repository.

MkDocs calls the functions by their names (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
RESULTS = "benchmarks/results"
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<up>(?:\.\./)+)(?P<path>(?!\.\./)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the measured tables and pictures to the site, under the path that they have in the repository."""
    for path in sorted((ROOT / RESULTS).iterdir()):
        file = File.generated(config, f"{RESULTS}/{path.name}", abs_src_path=str(path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns what only the repository understands into what the site does."""
    source = page.file.src_uri
    markdown = re.sub(r"^```python no-run$", "```python", markdown, flags=re.MULTILINE)
    markdown = re.sub(r"\[docs/([\w-]+)\.md\]", lambda name: f"[{name[1].replace('-', ' ')}]", markdown)
    if source.startswith(RESULTS):
        return markdown

    def resolved(link: re.Match[str]) -> str:
        target = ((ROOT / "docs" / source).parent / link["up"] / link["path"]).resolve()
        inside = target.relative_to(ROOT).as_posix()
        if inside.startswith("docs/"):
            return link[0]
        if not target.exists():
            raise FileNotFoundError(f"docs/{source}: {inside} is not there")
        if inside.startswith(RESULTS):
            return f"{link['text']}({'../' * source.count('/')}{inside}{link['anchor'] or ''})"
        if config.repo_url:
            return f"{link['text']}({config.repo_url.rstrip('/')}/blob/main/{inside})"
        return link["text"].strip("[]")

    return LINK.sub(resolved, markdown)
