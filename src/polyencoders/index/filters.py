"""Which filters are refused before LanceDB sees them: several statements, and what would make it crash."""

import re

from polyencoders.errors import IndexingError

INTRICATE = 150
"""Words and signs of a filter besides plain comparisons. LanceDB 0.40 walks expressions recursively, and a chain of 800
(`year + year + ...`) ends the process; half as many, and any number of comparisons joined by AND and OR, do not."""
_IN_QUOTES = re.compile(r"'(?:[^']|'')*'")
_QUOTED_NAMES = re.compile(r'`[^`]*`|"[^"]*"')
_LISTS = re.compile(r"\([-'\d.,\s]*\)")
_LITERAL = r"(?:''|-?[\d.]+|true\b|false\b)"
_PLAIN = re.compile(
    rf"\b[a-z_]\w*\s*(?:[=<>!]{{1,2}}\s*{_LITERAL}|(?:\bnot\s+)?(?:\bi?like\s*''|\bin\s*\[\]|\bbetween\s+{_LITERAL}"
    rf"\s+and\s+{_LITERAL})|\bis\s+(?:not\s+)?null\b)",
    re.IGNORECASE,
)
_PART = re.compile(r"\w+|[^\w\s(),]+")
_JOINS = frozenset(("and", "or"))
_GROWS = re.compile(r"\b(repeat|[lr]pad|range|generate_series|(?:array|list)_(?:repeat|resize))\s*\(", re.IGNORECASE)
"""With these functions a few characters of filter could ask for gigabytes."""
_ENDS_A_FILTER = re.compile(r";|--|/\*")  # What follows these would be ignored without a word


def check_filter(where: str) -> None:
    """Refuse a filter that LanceDB would cut short, or would not survive; the IndexingError says why.

    >>> check_filter("lang = 'en' AND year IN (2020, 2021)")
    """
    bare = _IN_QUOTES.sub("''", where)
    if _ENDS_A_FILTER.search(bare):
        raise IndexingError(
            f"the filter {shown(where)} cannot be used: it is one SQL condition, without ';' or comments"
        )
    if (grows := _GROWS.search(bare)) is not None:
        raise IndexingError(f"the filter {shown(where)} cannot be used: {grows[1]} is not for filters")
    rest = _PLAIN.sub(" ", _LISTS.sub("[]", _QUOTED_NAMES.sub("x", bare)))
    parts = sum(part.lower() not in _JOINS for part in _PART.findall(rest))
    if parts > INTRICATE:
        raise IndexingError(
            f"the filter {shown(where)} cannot be used: it is too intricate, with {parts:,} words and signs besides "
            f"plain comparisons, the most is {INTRICATE}"
        )


def shown(where: str, most: int = 200) -> str:
    """A filter in quotes, or its beginning."""
    return repr(where if len(where) <= most else where[:most] + "...")
