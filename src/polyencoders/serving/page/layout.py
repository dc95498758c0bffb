"""The page's parts and what happens when they are used. Knows Gradio; what is found, and how it is shown, others know.

Every event is one request that is answered when it is done: no queue, and no stream that stays open.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import gradio as gr

from polyencoders.encoders.queries import Query
from polyencoders.errors import DataError, PolyencodersError
from polyencoders.serving.page import render
from polyencoders.serving.page.answers import Question, answer, kind_of
from polyencoders.serving.page.comparing import SHOWN, compare
from polyencoders.serving.refusals import without_paths
from polyencoders.serving.served import Served
from polyencoders.serving.settings import Settings

logger = logging.getLogger("polyencoders.serving")

Use = Callable[[], AbstractContextManager[Served]]

_SYSTEM = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_SYSTEM_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
THEME = gr.themes.Base(  # fonts that are there: none is loaded
    primary_hue="teal", secondary_hue="teal", neutral_hue="stone", font=_SYSTEM, font_mono=_SYSTEM_MONO
)

HITS, MODELS = "Hits, and why", "Models side by side"
EXAMPLES = 4
CONVERSATION = ("Hi! How was your weekend?\nGood, we went hiking in the mountains.", "Nice! Do you go often?")
DOCUMENTS = (
    "The parcel left our warehouse and arrives on Tuesday.\n"
    "Hold the power button for ten seconds, then start it again.\n"
    "You can cancel under Account, Subscription, at any time.\n"
    "Refunds reach your account within five working days.\n"
    "Students get 20 percent off with a valid student card."
)
_QUIET: dict[str, Any] = {
    "queue": False,
    "api_visibility": "private",
    "show_progress": "minimal",
    "trigger_mode": "always_last",
    "preprocess": False,  # what is wrong with what was typed is said by us
}


def blocks(use: Use, settings: Settings) -> gr.Blocks:
    """The page."""
    has_index = settings.index is not None
    with use() as served:
        examples, columns = _examples(served), _columns(served)
    ask = _asking(use, settings)

    page = gr.Blocks(title="polyencoders", analytics_enabled=False)
    with page:
        head = gr.HTML(_header(use), elem_id="pe-head", apply_default_css=False)
        if not has_index:
            documents = gr.Textbox(label="Documents to rank, one a line", value=DOCUMENTS, lines=5, max_lines=20)
        with gr.Row(elem_id="pe-ask"):
            query = gr.Textbox(
                label="Query, or the newest turn of a conversation",
                placeholder="Type, and press Enter",
                show_label=False,
                container=False,
                autofocus=True,
                lines=1,
                max_lines=6,
                scale=5,
            )
            button = gr.Button("Search" if has_index else "Rank", variant="primary", scale=0, min_width=110)
        with gr.Row(elem_id="pe-examples"):
            chips = [gr.Button(render.shortened(text), size="sm", min_width=60) for _, text in examples]
        with gr.Row(elem_id="pe-more", equal_height=False):
            with gr.Accordion("What was said before", open=False, elem_id="pe-turns"):
                turns = gr.Textbox(
                    label="Earlier turns, one a line, the oldest first; the newest stands above",
                    placeholder="Hi! How was your weekend?\nGood, we went hiking in the mountains.",
                    lines=3,
                    max_lines=12,
                )
            with gr.Accordion("Options", open=False, elem_id="pe-options"), gr.Row():
                k = gr.Number(10, label="Hits", precision=0, min_width=80)
                if has_index:
                    mode = gr.Radio(["exact", "fast"], value="exact", label="Search", min_width=150)
                    where = gr.Textbox(
                        label=f"Filter, in SQL, on {columns}", placeholder="text LIKE '%weekend%'", min_width=200
                    )
        view = gr.Radio([HITS, MODELS], value=HITS, show_label=False, container=False, elem_id="pe-view")
        found = gr.HTML(render.hint(), elem_id="pe-found", apply_default_css=False)

        rest = [view, k, mode, where] if has_index else [view, k, documents]
        page.load(lambda: _header(use), outputs=head, **_QUIET)
        triggers = [button.click, query.submit, view.input]
        if has_index:
            triggers += [where.submit, mode.input]
        gr.on(triggers, ask, [turns, query, *rest], found, **_QUIET)
        for chip, example in zip(chips, examples, strict=True):
            gr.on([chip.click], _filling(ask, *example), rest, [turns, query, found], **_QUIET)
    return page


def _asking(use: Use, settings: Settings) -> Callable[..., Any]:
    """What happens when somebody asks: an answer as HTML, or what is wrong in a sentence."""

    async def ask(*typed: Any) -> str:
        try:
            question = _question(settings.index is not None, *typed)
            question.check(settings.limits, settings.index is not None)
            with use() as served:
                if typed[2] == MODELS:
                    return render.side_by_side(await compare(served, question), min(question.k, SHOWN))
                return render.hits(await answer(served, question))
        except PolyencodersError as error:
            return render.notice(without_paths(str(error)))
        except Exception as error:
            logger.error("unexpected", exc_info=error)
            return render.notice("Something went wrong here; the server's log says what.")

    return ask


def _question(has_index: bool, turns: Any, query: Any, view: Any, k: Any, *rest: Any) -> Question:
    """What was typed, as the browser sent it.

    Raises
    ------
    DataError
        It is no question.
    """
    newest = _line(query)
    if not newest:
        raise DataError("Type a query first.")
    said = _lines(turns)
    whole: Query = [*said, newest] if said else newest
    if not isinstance(k, int | float) or not k == k // 1:
        raise DataError("Hits, under Options, is to be a whole number.")
    if not has_index:
        return Question(whole, int(k), documents=tuple(_lines(*rest)))
    mode, where = rest
    return Question(whole, int(k), "fast" if mode == "fast" else "exact", _line(where) or None)


def _line(typed: Any) -> str:
    return typed.strip() if isinstance(typed, str) else ""


def _lines(typed: Any) -> list[str]:
    return [line.strip() for line in _line(typed).splitlines() if line.strip()]


def _filling(ask: Callable[..., Any], turns: str, query: str) -> Callable[..., Any]:
    """An example: what it fills in, and its answer."""

    async def fill(*rest: Any) -> tuple[str, str, str]:
        return turns, query, await ask(turns, query, *rest)

    return fill


def _header(use: Use) -> str:
    with use() as served:
        library = served.library
        return render.header(
            served.engine.name,
            kind_of(served.engine),
            library.name if library is not None else None,
            len(library) if library is not None else None,
        )


def _columns(served: Served) -> str:
    """What can be filtered by."""
    if served.library is None:
        return ""
    names = ["text", *served.library.info().metadata]
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _examples(served: Served) -> list[tuple[str, str]]:
    """Earlier turns and a query each: short texts of the index, questions first, and a conversation."""
    if served.library is None:
        return [("", "When will my order come?"), ("", "It does not start"), ("", "Can I get my money back?")]
    texts = [one["text"] for one in served.library.sample(300)]
    usable = [text for text in texts if text and 12 <= len(text) <= 60 and "\n" not in text]
    usable.sort(key=lambda text: not re.search(r"[?？]\s*$", text))
    return [("", text) for text in usable[:EXAMPLES]] + [CONVERSATION]
