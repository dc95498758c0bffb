"""Answers as HTML. Every text that comes from outside goes through `text()`, which escapes it.

Knows what is shown and how it is marked up; the looks are in `page.css`. Nothing of Gradio.
"""

from __future__ import annotations

import html
from typing import Any

from polyencoders.serving.page.answers import Found, Ranking
from polyencoders.serving.page.reasons import query_as_read, why

LONGEST = 1_200
"""Characters of a document that are shown."""
VALUE = 120
"""Characters of a value of its metadata."""


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


def header(name: str, kind: str, index: str | None, documents: int | None) -> str:
    """What is served."""
    parts = [f"<b>{text(name)}</b>, {text(kind)}"]
    if index is not None:
        parts.append(f"<b>{documents or 0:,}</b> documents in <b>{text(index)}</b>")
    else:
        parts.append("no index: it ranks the documents you type")
    return (
        '<header class="pe-head"><h1>polyencoders</h1>'
        f'<p>{" <i>·</i> ".join(f"<span>{part}</span>" for part in parts)}</p></header>'
    )


def hits(ranking: Ranking) -> str:
    """What was found, each with its reasons behind it."""
    if not ranking.found:
        return notice("nothing was found: the filter leaves no documents" if ranking.proven else "nothing was found")
    parts = [_facts(ranking)]
    if ranking.reading is not None:
        parts.append(query_as_read(ranking.reading))
    rows = "".join(_hit(place, one, ranking) for place, one in enumerate(ranking.found, 1))
    return f'<section class="pe-hits">{"".join(parts)}<ol>{rows}</ol></section>'


def side_by_side(rankings: list[Ranking], shown: int) -> str:
    """Rankings in columns; each document says where the first one has it."""
    first = {one.key: place for place, one in enumerate(rankings[0].found, 1)}
    columns = []
    for number, ranking in enumerate(rankings):
        rows = "".join(
            f'<li><span class="pe-text">{text(one.text or "", 300)}</span>'
            f'<span class="pe-score">{one.score:.3f}</span>{_place(one, place, first) if number else ""}</li>'
            for place, one in enumerate(ranking.found[:shown], 1)
        )
        columns.append(
            f'<article class="pe-column"><h2>{text(ranking.name)}</h2><p class="pe-kind">{text(ranking.kind)}</p>'
            f'<p class="pe-total">{_in_all(ranking)}</p><p class="pe-did">{text(ranking.did)}<br>{_times(ranking)}</p>'
            f"<ol>{rows or '<li>nothing</li>'}</ol></article>"
        )
    about = (
        "Times are of one query, one model after the other. Scores of different models are on different scales; "
        f"the mark beside a score is the document's place in the first column."
    )
    return (
        f'<section class="pe-compare"><div class="pe-columns">{"".join(columns)}</div>'
        f'<p class="pe-about">{about}</p></section>'
    )


def _hit(place: int, one: Found, ranking: Ranking) -> str:
    body = f'<span class="pe-text">{text(one.text)}</span>' if one.text else '<span class="pe-text pe-none">no text</span>'
    head = f'<span class="pe-place">{place}</span>{body}<span class="pe-score">{one.score:.3f}</span>'
    facts = _metadata(one)
    if one.why is None or ranking.reading is None:
        return f'<li><div class="pe-hit">{head}</div>{facts}</li>'
    return (
        f'<li><details><summary class="pe-hit">{head}<span class="pe-why">why</span></summary>'
        f"{why(ranking.reading, one.why)}</details>{facts}</li>"
    )


def _metadata(one: Found) -> str:
    pairs = [("id", one.key), *((name, value) for name, value in one.metadata.items() if value is not None)]
    return (
        '<p class="pe-meta">'
        + "".join(f"<span><i>{text(name, VALUE)}</i> {text(value, VALUE)}</span>" for name, value in pairs)
        + "</p>"
    )


def _facts(ranking: Ranking) -> str:
    parts = [text(ranking.did), text(ranking.proven), _times(ranking)]
    return f'<p class="pe-facts">{"".join(f"<span>{part}</span>" for part in parts if part)}</p>'


def _times(ranking: Ranking) -> str:
    return ", ".join(f"{text(what)} {_ms(ms)}" for what, ms in ranking.times.items())


def _in_all(ranking: Ranking) -> str:
    return _ms(sum(ranking.times.values()))


def _ms(ms: float) -> str:
    return f"<b>{ms:.1f}</b> ms" if ms < 10 else f"<b>{ms:,.0f}</b> ms"


def _place(one: Found, place: int, first: dict[str, int]) -> str:
    before = first.get(one.key)
    if before is None:
        return '<span class="pe-move pe-new" title="not among the first column\'s candidates">new</span>'
    kind = "same" if before == place else "up" if place < before else "down"
    return f'<span class="pe-move pe-{kind}" title="place {before} in the first column">{before}</span>'
