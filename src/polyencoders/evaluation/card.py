"""Puts results on a model's card: a table with intervals, and what hubs read of it (`model-index`)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from polyencoders.errors import ModelError
from polyencoders.evaluation.evaluate import Report
from polyencoders.files import whole_file

_BEGIN, _END = "<!-- results:begin -->", "<!-- results:end -->"
_CARD = re.compile(rf"---\n(.*?\n)---\n(.*{_BEGIN}\n)(.*?)({_END}.*)", re.DOTALL)
_HEAD = "| data | protocol | measure | mean | 95% interval | queries |\n|---|---|---|---|---|---|\n"


def put_results(folder: str | os.PathLike[str], data: str, report: Report) -> None:
    """Write a report into the card of a model's directory, in the place of an earlier one on the same data.

    Parameters
    ----------
    folder
        A model's directory, or an exported one, with a card of this package.
    data
        The name of what was measured on, as readers of the card will see it (`shown_name`).
    report
        From `evaluate`.

    Raises
    ------
    ModelError
        The directory has no card, or one that this package did not write.
    """
    path = Path(folder) / "README.md"
    found = _CARD.fullmatch(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None:
        raise ModelError(f"{path} is no card of this package, with a place for results: save or export the model anew")
    metadata, before, table, after = found.groups()
    head = (f"| {data} |", _HEAD.partition("\n")[0])
    rows = [row for row in table.splitlines() if row.startswith("| ") and not row.startswith(head)]
    among = f"{report.protocol}, {report.candidates} documents each"
    rows += [
        f"| {data} | {among} | {name} | {one.mean:.3f} | {one.low:.3f} to {one.high:.3f} | {report.queries:,} |"
        for name, one in report.metrics.items()
    ]
    known: dict[str, Any] = yaml.safe_load(metadata)
    [index] = known.setdefault("model-index", [{"name": Path(folder).resolve().name, "results": []}])
    index["results"] = [one for one in index["results"] if one["dataset"]["name"] != data] + [
        {
            "task": {"type": "text-ranking"},
            "dataset": {"name": data, "type": data},
            "metrics": [
                {"type": name, "value": round(one.mean, 4), "name": f"{name}, {among}"}
                for name, one in report.metrics.items()
            ],
        }
    ]
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    with whole_file(path) as scratch:
        scratch.write_text(f"---\n{text}---\n{before}{_HEAD}{chr(10).join(rows)}\n{after}", encoding="utf-8")


def shown_name(data: str) -> str:
    """Returns the name of a data set, as it is given on the command line, for a card that others read.

    Enough of a path is left to tell two files of one name apart; of an absolute one the file and its folder, because
    the rest says whose machine it was.

    >>> shown_name("a/test.jsonl"), shown_name("/sets/b/test.jsonl"), shown_name("mutual:/sets/talk/mutual")
    ('a/test.jsonl', 'b/test.jsonl', 'mutual:talk/mutual')
    """
    kind, colon, rest = data.partition(":")
    is_format = colon and len(kind) > 1 and not Path(data).exists()  # C:\\data is a path
    path = Path(rest if is_format else data)
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    if path.is_absolute():
        parts = parts[-1:] if path.parent == Path.home() else parts[-2:]
    return (f"{kind}:" if is_format else "") + "/".join(parts)
