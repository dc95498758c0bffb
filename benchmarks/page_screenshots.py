"""Takes the screenshots of docs/serving-page.md: the page of `polyencoders serve` on the index of `polyencoders demo`.

    python benchmarks/page_screenshots.py --index models/demo-index --compare sentence-transformers/all-MiniLM-L6-v2

Needs polyencoders[dev] and a Chromium. The server runs in its own process, on a free port.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from server_process import running

QUERY = "Any plans for the weekend?"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def asked(page: Page) -> None:
    """Ask twice: the first query of a process is slower."""
    for _ in range(2):
        page.evaluate("document.querySelector('#pe-found section')?.remove()")
        page.fill("#pe-ask textarea", QUERY)
        page.press("#pe-ask textarea", "Enter")
        page.wait_for_selector("#pe-found section")


def take(page: Page, folder: Path, name: str, height: int) -> None:
    """Take the upper part of the page."""
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.mouse.move(0, 0)
    page.screenshot(path=folder / f"page-{name}.png")


def main() -> None:
    """Serve, ask, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", default="models/demo-index")
    parser.add_argument("--model", help="by default the one that made the index")
    parser.add_argument("--compare", action="append", default=[])
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))

    model = [given.model] if given.model else []
    compare = [part for name in given.compare for part in ("--compare", name)]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(*model, "--index", given.index, *compare, log=Path(folder) / "log", page=True) as server,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        for width, scheme in ((1100, "light"), (390, "dark")):
            page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
            page.goto(server.url)
            page.wait_for_selector("#pe-served b")
            asked(page)
            if width < 500:
                page.click("summary.pe-hit >> nth=0")
                take(page, given.output, "phone", 1140)
                continue
            take(page, given.output, "search", 780)
            page.click(".pe-reading summary")
            page.click("summary.pe-hit >> nth=0")
            take(page, given.output, "why", 860)
            page.click("text=Models side by side")
            page.wait_for_selector(".pe-compare")
            asked(page)
            take(page, given.output, "models", 820)
        browser.close()


if __name__ == "__main__":
    main()
