"""The page at `/`: three static files, which ask the server's JSON routes.

The browser may load nothing from elsewhere, run no script but `page.js`, and make no HTML of texts.
"""

import asyncio
import re
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response

from polyencoders.serving.routes.common import ServedNow, TheLimits
from polyencoders.serving.routes.explain import kind_of

FILES = (("/", "index.html", "html"), ("/page.css", "page.css", "css"), ("/page.js", "page.js", "javascript"))
"""The path, name and `text/` type of each file."""
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
CONVERSATION = ["Hi! How was your weekend?", "Good, we went hiking in the mountains.", "Nice! Do you go often?"]
WITHOUT_INDEX = ["When will my order come?", "It does not start", "Can I get my money back?"]


def mount(api: FastAPI) -> None:
    """Add the page's files, and `/page.json`, to the application."""
    for path, name, kind in FILES:
        _add_file(api, path, files(__name__).joinpath(name).read_bytes(), kind)
    api.add_api_route("/page.json", about, include_in_schema=False)


def _add_file(api: FastAPI, path: str, content: bytes, kind: str) -> None:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=f"text/{kind}", headers=HEADERS)

    api.add_route(path, answer, include_in_schema=False)


async def about(served: ServedNow, limits: TheLimits) -> dict[str, Any]:
    """What the page says about the server, and queries to try."""
    reader = served.reranking.engine.name if served.reranking is not None else None
    said = {"model": served.engine.name, "kind": kind_of(served.engine), "most_hits": limits.hits, "reader": reader}
    if served.library is None:
        return {**said, "index": None, "examples": WITHOUT_INDEX}
    info, sample = await asyncio.to_thread(lambda library: (library.info(), library.index.sample(300)), served.library)
    texts = [text for one in sample if (text := one["text"]) and 12 <= len(text) <= 60 and "\n" not in text]
    texts.sort(key=lambda text: not re.search(r"[?？]\s*$", text))  # questions first
    index = {"name": served.library.name, "documents": len(served.library.index), "columns": ["text", *info.metadata]}
    words = served.library.index.words(served.words) is not None  # Whether they count unless it is said otherwise
    return {**said, "index": index, "words": words, "examples": [*texts[:4], CONVERSATION]}
