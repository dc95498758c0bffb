"""Why a document has its score, as HTML: the codes it attended to, and the words of the query behind them.

Knows readings and explanations; the looks are in `page.css`.
"""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.protocols import QueryReading
from polyencoders.serving.explaining import Explanation

CODES = 8
"""Codes that are shown: those that weigh most."""
WORDS = 4
"""Words that are named for a code."""


def query_as_read(reading: QueryReading) -> str:
    """The query once for each code, its words shaded by their share in the code."""
    there = [number for number, row in enumerate(reading.shares) if row.any()]
    rows = "".join(
        f'<div class="pe-code"><span class="pe-number">{number + 1}</span>'
        f'<p class="pe-read">{_shaded(reading, reading.shares[number])}</p></div>'
        for number in there[:CODES]
    )
    more = f"<p>and {len(there) - CODES} more codes</p>" if len(there) > CODES else ""
    cut = "<p>The oldest part did not fit, and was not read.</p>" if reading.was_cut else ""
    return (
        f'<details class="pe-reading"><summary>What the {len(there)} codes read in the query</summary>'
        f"{rows}{more}{cut}</details>"
    )


def why(reading: QueryReading, reason: Explanation) -> str:
    """The codes that a document attended to, with their words, and what that makes of the score."""
    there = np.flatnonzero((reading.codes != 0).any(axis=1))
    order = there[np.argsort(-reason.weights[there], kind="stable")]
    rows = "".join(_row(reading, reason, number) for number in order[:CODES])
    rest = order[CODES:]
    if len(rest):
        together = f"and {len(rest)} more codes, {reason.weights[rest].sum():.1%} together"
        rows += f'<tr><th></th><td colspan="4">{together}</td></tr>'
    return (
        f'<div class="pe-reasons"><p class="pe-read">{_shaded(reading, reason.words)}</p>'
        '<table><thead><tr><th scope="col">code</th><th scope="col" colspan="2">weight</th>'
        '<th scope="col">y · c</th><th scope="col">reads most</th></tr></thead>'
        f'<tbody>{rows}</tbody></table><p class="pe-verdict">{_in_words(reason, len(there))}</p></div>'
    )


def _row(reading: QueryReading, reason: Explanation, number: int) -> str:
    weight = reason.weights[number]
    return (
        f'<tr><th scope="row">{number + 1}</th><td class="pe-bar"><span style="--w:{weight:.4f}"></span></td>'
        f"<td>{weight:.1%}</td><td>{reason.inner_products[number]:.3f}</td>"
        f'<td class="pe-words">{_most(reading, reading.shares[number])}</td></tr>'
    )


def _in_words(reason: Explanation, codes: int) -> str:
    if codes < 2:
        return "There is one code: the score is its inner product with the document, as in a bi-encoder."
    gain = reason.score - reason.mean
    entropy = f"entropy {reason.evenness:.0%} of the most there can be"
    if reason.nearly_even:
        return (
            f"The document hardly tells the codes apart ({entropy}): its score, {reason.score:.3f}, is close to "
            f"that of their average, {reason.mean:.3f}, which a bi-encoder could have given."
        )
    return (
        f"The document chooses among the codes ({entropy}): its score is {reason.score:.3f}, and would be "
        f"{reason.mean:.3f} with their average. The attention adds {gain:.3f}."
    )


def _most(reading: QueryReading, shares: NDArray[np.float32]) -> str:
    order = np.argsort(-shares, kind="stable")[:WORDS]
    return " ".join(
        f"<span>{html.escape(reading.words[place].text)} <i>{shares[place]:.0%}</i></span>"
        for place in order
        if shares[place] > 0
    )


def _shaded(reading: QueryReading, shares: NDArray[np.floating]) -> str:
    """The text that was read; the word with the largest share is the darkest."""
    largest = float(shares.max()) if len(shares) else 0.0
    parts, at = [], 0
    for word, share in zip(reading.words, shares, strict=True):
        if word.end > word.start:
            parts.append(html.escape(reading.text[at : word.start]))
            at = word.end
        depth = f"--s:{100 * float(share) / largest:.0f}%" if largest > 0 else "--s:0%"
        kind = ' class="pe-special"' if word.special else ""
        parts.append(f'<mark{kind} style="{depth}" title="{share:.1%}">{html.escape(word.text)}</mark>')
    parts.append(html.escape(reading.text[at:]))
    return "".join(parts)
