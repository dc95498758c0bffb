"""Rows in memory as examples: dicts, tuples, generators, and the tables of pandas, Polars and `datasets`."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from polyencoders.data.examples import Example, shortened, text_or_texts
from polyencoders.data.fields import as_written, roles_in, strictly
from polyencoders.data.lines import located
from polyencoders.errors import DataError


def as_examples(rows: Any, columns: Mapping[str, str] | None = None) -> list[Example]:
    """Returns examples for rows of any kind.

    Rows are Examples; tuples of a query, its right answer and perhaps wrong ones; dicts; or a table of pandas, Polars
    or ``datasets``. The names of dicts and tables are columns, found as `read_examples` finds those of a file; with
    ``candidates`` they are the fields of `read_jsonl`. None is no wrong answer. A DataError names the row.

    >>> as_examples([("Tea?", "Yes."), ("Milk?", "No.", "Yes.")])[1].negatives
    ('Yes.',)
    >>> as_examples({"question": text, "answer": "Yes."} for text in ["Tea?"])[0].query
    ('Tea?',)
    """
    if isinstance(rows, str | bytes | Mapping):
        hint = ": choose one of its splits" if isinstance(rows, Mapping) else ": read_examples reads a file"
        raise DataError(f"expected rows, given {type(rows).__name__} {shortened(rows)}{hint}")
    if hasattr(rows, "to_dicts"):  # Polars
        rows = rows.to_dicts()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        rows = rows.to_dict("records")
    if not isinstance(rows, Iterable):
        raise DataError(f"expected rows, given {type(rows).__name__} {shortened(rows)}")
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        return []
    numbered = ((f"row {number}", row) for number, row in enumerate(chain([first], iterator), start=1))
    if isinstance(first, Mapping):
        given = list(numbered)
        names = {name for _, row in given if isinstance(row, Mapping) for name in row}
        if not columns and "candidates" in names and as_written(names):
            return list(strictly((place, _plain(row)) for place, row in given))
        roles, _, rows = roles_in(given, columns, strict=False)
        return [] if roles is None else roles.examples(rows)
    examples = []
    for place, row in numbered:
        with located(place):
            examples.append(_example(row))
    return examples


def _example(row: Any) -> Example:
    if isinstance(row, Example):
        return row
    if isinstance(row, str) or not isinstance(row, Sequence) or len(row) < 2:
        raise DataError(
            f"expected an Example, a dict, or a tuple of a query and its right answer, given {shortened(row)}"
        )
    wrong = [
        text for given in row[2:] if given is not None for text in text_or_texts("negative", "text", _listed(given))
    ]
    return Example(row[0], row[1], wrong)


def _plain(row: Any) -> Any:
    """Returns a row as JSON would have it: lists for arrays, and None where pandas has no number for nothing."""
    if not isinstance(row, Mapping):
        return row
    listed = {name: _listed(value) for name, value in row.items()}
    return {name: None if isinstance(value, float) and value != value else value for name, value in listed.items()}


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
