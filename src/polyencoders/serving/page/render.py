"""Answers as HTML. Every text that comes from outside goes through `text()`, which escapes it.

Knows what is shown and how it is marked up; the looks are in `page.css`. Nothing of Gradio.
"""

from __future__ import annotations

import html
import re
from typing import Any

from polyencoders.serving.page.answers import Found, Ranking
from polyencoders.serving.page.reasons import query_as_read, why

LONGEST = 1_200
"""Characters of a document that are shown."""
VALUE = 120
"""Characters of a value of its metadata."""
_HASH = re.compile("[0-9a-f]{32}")
"""The id of a document that was added without one: it says nothing to anybody."""


def text(given: Any, most: int = LONGEST) -> str:
    """What somebody wrote, as HTML that shows it.

    >>> text("<b> & so on", most=5)
    '&lt;b&gt; …'
    """
    shown = str(given)
    return html.escape(shown if len(shown) <= most else shown[: most - 1] + "…")


def shortened(given: str, most: int = 48) -> str:
    """A text of one short line, not yet HTML."""
    return given if len(given) <= most else given[: most - 1].rstrip() + "…"


def notice(message: str) -> str:
    """What is wrong, or missing, in a sentence."""
    return f'<p class="pe-notice" role="alert">{text(message, 500)}</p>'


def hint() -> str:
    """Before anything was asked."""
    return '<p class="pe-about">Type a query, or try one of the examples.</p>'


def header(name: str, kind: str, index: str | None, documents: int | None) -> str:
    """What is served."""
    parts = [f"<b>{text(name)}</b>, {text(kind)}"]
    if index is not None:
        parts.append(f"<b>{documents or 0:,}</b> documents in <b>{text(index)}</b>")
    return (
        '<header class="pe-head"><h1>polyencoders</h1>'
        f"<p>{''.join(f'<span>{part}</span>' for part in parts)}</p></header>"
    )


def hits(ranking: Ranking) -> str:
    """What was found, each with its reasons behind it."""
    if not ranking.found:
        return notice("Nothing was found: no document is left to search.")
    read = query_as_read(ranking.reading) if ranking.reading is not None else ""
    rows = "".join(_hit(place, one, ranking) for place, one in enumerate(ranking.found, 1))
    return f'<section class="pe-hits">{_facts(ranking)}{read}<ol>{rows}</ol></section>'


def side_by_side(rankings: list[Ranking], shown: int) -> str:
    """Rankings in columns; each document says where the first one has it."""
    first = {one.key: place for place, one in enumerate(rankings[0].found, 1)}
    columns = "".join(_column(ranking, shown, first if number else {}) for number, ranking in enumerate(rankings))
    mark = ""
    if len(rankings) > 1:
        mark = f" The mark beside a score is the document's place by {text(rankings[0].name)}."
    return (
        f'<section class="pe-compare"><div class="pe-columns">{columns}</div><p class="pe-about">The models were asked '
        f"one after the other; times are of this one query. Their scores are on different scales.{mark}</p></section>"
    )


def _column(ranking: Ranking, shown: int, first: dict[str, int]) -> str:
    rows = "".join(
        f'<li><span class="pe-text">{text(one.text or "no text", 300)}</span>'
        f'<span class="pe-score">{one.score:.3f}{_place(one, place, first)}</span></li>'
        for place, one in enumerate(ranking.found[:shown], 1)
    )
    return (
        f'<article class="pe-column"><h2>{text(ranking.name)}</h2><p>{text(ranking.kind)}</p>'
        f'<p class="pe-total">{_ms(sum(ranking.times.values()))}</p>'
        f"<p>{text(ranking.did)}</p><p>{_times(ranking)}</p><ol>{rows}</ol></article>"
    )


def _place(one: Found, place: int, first: dict[str, int]) -> str:
    if not first:
        return ""
    before = first.get(one.key)
    if before is None:
        return '<i class="pe-new">new</i>'
    kind = "same" if before == place else "up" if place < before else "down"
    return f'<i class="pe-{kind}">{before}</i>'


def _hit(place: int, one: Found, ranking: Ranking) -> str:
    shown = text(one.text) if one.text else "<i>no text is kept</i>"
    head = (
        f'<span class="pe-place">{place}</span><span class="pe-text">{shown}{_metadata(one)}</span>'
        f'<span class="pe-score">{one.score:.3f}</span>'
    )
    if one.why is None or ranking.reading is None:
        return f'<li><div class="pe-hit">{head}</div></li>'
    return (
        f'<li><details><summary class="pe-hit">{head}<span class="pe-why">why</span></summary>'
        f"{why(ranking.reading, one.why)}</details></li>"
    )


def _metadata(one: Found) -> str:
    pairs = [(name, value) for name, value in one.metadata.items() if value is not None]
    if not _HASH.fullmatch(one.key):
        pairs.insert(0, ("id", one.key))
    if not pairs:
        return ""
    shown = "".join(f"<span><i>{text(name, VALUE)}</i> {text(value, VALUE)}</span>" for name, value in pairs)
    return f'<span class="pe-meta">{shown}</span>'


def _facts(ranking: Ranking) -> str:
    parts = [text(ranking.did), text(ranking.proven), _times(ranking)]
    return f'<p class="pe-facts">{"".join(f"<span>{part}</span>" for part in parts if part)}</p>'


def _times(ranking: Ranking) -> str:
    return ", ".join(f"{text(what)} {_ms(ms)}" for what, ms in ranking.times.items())


def _ms(ms: float) -> str:
    return f"<b>{ms:.1f}</b> ms" if ms < 10 else f"<b>{ms:,.0f}</b> ms"
