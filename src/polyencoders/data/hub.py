"""A data set of the Hugging Face hub, or a folder of tables in its manner, with a mapping of columns.

Read through ``datasets``; no code of a data set is ever run.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import did_you_mean
from polyencoders.data.sides import Source, with_validation
from polyencoders.errors import DataError

_COLUMNS = ("query", "positive", "negatives", "candidates")


def read_hub(
    name: str | os.PathLike[str],
    query: str = "query",
    positive: str = "positive",
    negatives: str | None = None,
    candidates: str | None = None,
    config: str | None = None,
    split: str = "train",
) -> list[Example]:
    """Reads a split of a hub's data set.

    Parameters
    ----------
    name
        On the hub, such as ``"sentence-transformers/natural-questions"``; or a local folder of CSV, JSON Lines or
        Parquet that ``datasets`` can load.
    query
        The column with a text, or a list of turns, oldest first.
    positive
        The column with the right answer, or a list of them.
    negatives, candidates
        Columns with a list of texts, or a text, where there are such.
    config, split
        Which configuration, where the set has several, and which split of it.

    Returns
    -------
    list of Example
        In the set's order. Rows without a query or a right answer (None, or an empty list) are left out.

    Raises
    ------
    DataError
        When the set cannot be loaded, has no such column, or a row cannot be used; the message begins with the set's
        name, the split and the row, counted from 1.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "train.jsonl").write_text('{"question": "Tea?", "answer": "Please."}')
    >>> read_hub(folder, query="question", positive="answer")  # doctest: +SKIP
    [Example(query=('Tea?',), positives=('Please.',), negatives=(), candidates=None)]
    """
    columns = {"query": query, "positive": positive, "negatives": negatives, "candidates": candidates}
    return _examples(os.fspath(name), split, _loaded(os.fspath(name), config, split), columns)


def source(path: str, seed: int) -> Source:
    """``hub:NAME?query=COLUMN&positive=COLUMN&negatives=COLUMN&candidates=COLUMN&config=NAME``; all but the name may be
    left out."""
    name, _, options = path.partition("?")
    given = dict(parse_qsl(options, keep_blank_values=True))
    known = (*_COLUMNS, "config")
    for option, value in given.items():
        if option not in known:
            raise DataError(
                f"hub:{path}: no option {option!r}{did_you_mean(option, known)}; there are {', '.join(known)}"
            )
        if not value:
            raise DataError(f"hub:{path}: {option}: expected a name after =")
    config = given.pop("config", None)
    columns: dict[str, str | None] = {"query": "query", "positive": "positive", **given}
    sides = {split: _examples(name, split, rows, columns) for split, rows in _loaded(name, config, None).items()}
    validation = next((sides[split] for split in ("validation", "valid", "dev") if split in sides), None)
    if "train" not in sides or (validation is None and "test" not in sides):
        return Source([example for examples in sides.values() for example in examples])
    return with_validation(Source(sides["train"]), validation, sides.get("test"), seed)


def _loaded(name: str, config: str | None, split: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, config, split=split, trust_remote_code=False)
    except Exception as error:  # whatever a hub, a network, a file system or a parser says
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise DataError(f"{name}: cannot be loaded ({reason})") from error


def _examples(name: str, split: str, rows: Any, columns: dict[str, str | None]) -> list[Example]:
    wanted = {part: column for part, column in columns.items() if column is not None}
    for part, column in wanted.items():
        if column not in rows.column_names:
            raise DataError(
                f"{name}, {split}: no column {column!r} for the {part}{did_you_mean(column, rows.column_names)}; "
                f"there are {', '.join(rows.column_names)}"
            )
    examples = []
    for number, row in enumerate(rows.select_columns(sorted({*wanted.values()})), start=1):
        if any(row[wanted[part]] is None or row[wanted[part]] == [] for part in ("query", "positive")):
            continue
        try:
            negatives = row[wanted["negatives"]] if "negatives" in wanted else None
            candidates = row[wanted["candidates"]] if "candidates" in wanted else None
            examples.append(Example(row[wanted["query"]], row[wanted["positive"]], negatives or (), candidates or None))
        except DataError as error:
            raise DataError(f"{name}, {split}, row {number}: {error}") from None
    if not examples:
        raise DataError(f"{name}, {split}: no row has a query and a right answer")
    return examples
