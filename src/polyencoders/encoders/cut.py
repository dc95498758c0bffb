"""What a model does not see of documents, in a line each: those that are cut, alike after the cut, or all unknown."""

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from polyencoders.checks import shown
from polyencoders.encoders.protocols import Scorer, Token

SAMPLE = 500  # Texts whose tokens are looked at: a fraction of them is known to two hundredths
_TEXTS_OF_ONE = 3  # Texts that differ, from which a token that stands for them all is the unknown one


def said_of_documents(model: Scorer, texts: Sequence[str], more: str | None) -> list[str]:
    """Return lines on what a model does not see of documents; none where it sees all.

    `more` says how it can see more of them. None: they are cut into passages, so nothing is beyond its length.
    """
    different = list(dict.fromkeys(text for text in texts if text.strip()))
    drawn = random.Random(0).sample(different, min(SAMPLE, len(different)))
    if not drawn:
        return []
    tokens = model.tokens_of(drawn)
    lines = [_said_of_cut(tokens, model.longest, more)] if more is not None and model.longest else []
    return [line for line in [*lines, _said_of_unknown(drawn, tokens)] if line]


def _said_of_cut(tokens: Sequence[Sequence[Token]], longest: int, more: str) -> str:
    cut = [tuple(token.id for token in one[:longest]) for one in tokens if len(one) > longest]
    if not cut:
        return ""
    same = sum(number for number in Counter(cut).values() if number > 1)
    alike = f" {same:,} of the {len(tokens):,} that were looked at are alike as far as they are read." if same else ""
    return (
        f"{len(cut) / len(tokens):.0%} of the documents are longer than the {longest} tokens that are read of each; "
        f"the rest is not seen.{alike} {more}"
    )


def _said_of_unknown(texts: Sequence[str], tokens: Sequence[Sequence[Token]]) -> str:
    own = [[token for token in one if not token.special] for one in tokens]
    stands_for: dict[int, set[str]] = defaultdict(set)
    for token in (token for one in own for token in one):
        stands_for[token.id].add(_plain(token.text))
    # Every tokeniser has its own name for the unknown token, but in each it alone stands for texts of all kinds.
    unknown = {id for id, some in stands_for.items() if len(some) >= _TEXTS_OF_ONE}
    read = [{token.id for token in one} for one in own]
    lost = [text for text, ids in zip(texts, read, strict=True) if len(ids) == 1 and ids <= unknown]
    if not lost:
        return ""
    return (
        f"{len(lost):,} of {len(texts):,} documents that were looked at are nothing but unknown tokens to the model, "
        f"and so are alike to it, as {shown(lost[0])}. Give a model whose vocabulary has their script."
    )


def _plain(text: str) -> str:
    """A text without what a tokeniser may leave out: case, accents, forms of a letter, white space."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter) and not letter.isspace())
