"""The page at `/`: ask, see the hits and why, compare models. Needs Gradio.

It is what is served where no route of the API is. Of Gradio only what this page uses can be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.resources import files

import gradio
from fastapi import FastAPI

from polyencoders.serving.page.confined import Confined
from polyencoders.serving.page.layout import THEME, blocks
from polyencoders.serving.served import Served
from polyencoders.serving.settings import Settings


def mount(api: FastAPI, use: Callable[[], AbstractContextManager[Served]], settings: Settings) -> None:
    """Put the page where nothing else of the API is.

    Parameters
    ----------
    api
        The application, with its own routes.
    use
        What is served now, for as long as the block lasts.
    settings
        Of the server: the limits, and whether there is an index.
    """
    page = blocks(use, settings)
    gradio.mount_gradio_app(
        api,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=THEME,
        css=files(__name__).joinpath("page.css").read_text(encoding="utf-8"),
    )
    # Gradio mounts itself in front of everything that has no route, and so of "method not allowed", too.
    mounted = api.router.routes.pop().app  # type: ignore[attr-defined]
    api.router.default = Confined(mounted, {number: len(function.inputs) for number, function in page.fns.items()})
