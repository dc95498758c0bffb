"""Objects with named fields as examples: as `read_jsonl` takes them, or by fields whose roles are found."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from polyencoders.data.columns import HOW, Columns
from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import check_object, did_you_mean, item, located
from polyencoders.errors import DataError

FIELDS = ("query", "positive", "positives", "negatives", "candidates")

Rows = Iterable[tuple[object, Any]]
"""Objects, each with its place for errors."""


def roles_in(
    rows: Rows, asked: Mapping[str, str] | None = None, two: bool = False, strict: bool = True
) -> tuple[Columns | None, list[str], Rows]:
    """Returns the roles of fields, the names of all fields, and the rows: one may have fields that others lack.

    `asked` and `two` are those of `Columns.of`. Without `asked`, the first row that can be used says what is query and
    right answer. A later one may have negatives beside them. With a field that would be the query, the right answer or
    the label it is a DataError, because what was read before it would mean something else. There are no roles where no
    row can be used, nor with `strict` where the first row's fields are `as_written`.
    """
    if asked:
        return _roles_asked_for(list(rows), asked, two)
    left = iter(rows)
    for place, first in left:
        with item(place):
            if strict and isinstance(first, Mapping) and as_written(first):
                return None, list(first), chain([(place, first)], left)
            roles, names = _guessed(first, two), list(first)
            kept: list[tuple[object, Any]] = [(place, first)]
            break
    else:
        return None, [], []
    for place, row in left:
        with item(place):
            new = [name for name in row if name not in names] if isinstance(row, Mapping) else []
            if new:
                roles = _widened(roles, Columns.of([*names, *new], None, two))
                names += new
            kept.append((place, row))
    return roles, names, kept


def _roles_asked_for(
    rows: list[tuple[object, Any]], asked: Mapping[str, str], two: bool
) -> tuple[Columns | None, list[str], Rows]:
    names: dict[str, None] = {}
    objects = []
    for place, row in rows:
        with item(place):
            check_object(row, "a query and its right answer")
            names.update(dict.fromkeys(row))
            objects.append((place, row))
    if not objects:
        return None, [], []
    with located(objects[0][0]):
        return Columns.of(list(names), asked, two), list(names), objects


def _guessed(row: Any, two: bool) -> Columns:
    if not isinstance(row, Mapping):
        example_of(row)
    try:
        return Columns.of(list(row), None, two)
    except DataError:
        if not set(FIELDS).isdisjoint(row):
            example_of(row)  # says which field is missing, or written otherwise
        raise


def _widened(roles: Columns, wider: Columns) -> Columns:
    for role in ("query", "positive", "label"):
        name = getattr(wider, role)
        if name != getattr(roles, role):
            what = "name of a class" if role == "positive" and wider.is_class else role
            raise DataError(
                f"a field {shortened(name)}, which would be the {what}, and which those before lack: expected the same "
                f"fields in each, or {HOW}"
            )
    return wider


def as_written(names: Collection[str]) -> bool:
    """Tells whether fields are those of `read_jsonl`, which are checked strictly, and none to be guessed."""
    return "query" in names and not {"positive", "positives"}.isdisjoint(names)


def strictly(rows: Rows) -> Iterator[Example]:
    """Yields the examples of objects with the fields of `read_jsonl`, and no others."""
    for place, record in rows:
        with item(place):
            yield example_of(record)


def example_of(record: Any) -> Example:
    """Returns the example that an object is, as `read_jsonl` takes it; a DataError says what it lacks or has besides.

    >>> example_of({"query": "Tea?", "positive": "Yes."}).positives
    ('Yes.',)
    """
    if not isinstance(record, Mapping):
        raise DataError(f'expected an object such as {{"query": ..., "positive": ...}}, given {shortened(record)}')
    for name in record:
        if name not in FIELDS:
            raise DataError(
                f"unknown field {shortened(name)}{did_you_mean(name, FIELDS)}; "
                "the fields are query, positive or positives, negatives, candidates"
            )
    given = f"given only {shortened(list(record))}"
    if "query" not in record:
        raise DataError(f'no "query": expected a text or a list of turns; {given}')
    positives = [record[name] for name in ("positive", "positives") if name in record]
    if len(positives) == 2:
        raise DataError('both "positive" and "positives": expected one of the two')
    if not positives:
        raise DataError(f'no "positive" (or "positives"): expected the right answer; {given}')
    negatives = record.get("negatives")  # exported tables may have null for what is absent
    return Example(record["query"], positives[0], () if negatives is None else negatives, record.get("candidates"))
