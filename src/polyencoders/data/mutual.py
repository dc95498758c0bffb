"""Reads MuTual and MuTual+: what is said next in a listening test's conversation, of four (Cui et al., ACL 2020)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import check_fields, check_list, check_object, located, read_json
from polyencoders.data.sources import Source, with_validation
from polyencoders.errors import DataError

# "m ; f :" is two people speaking at once: one turn.
_TURN = re.compile(r"(?<!;)\s+(?=[mf] ?:)", re.IGNORECASE)


def read_mutual(path: str | os.PathLike[str]) -> list[Example]:
    """Reads the questions of one split of MuTual. A DataError names the file.

    Parameters
    ----------
    path
        A folder such as ``data/mutual/dev`` (the answers of the test split are not public). Every ``.txt`` in it is a
        question: ``{"answers": "B", "options": ["m : ...", ...], "article": "f : ... m : ...", "id": "dev_1"}``.

    Returns
    -------
    list of Example
        By the numbers of the files. The query is the article's turns, each with its speaker, as the options have it.
        The options are the candidates, in their order. The wrong ones, written to mislead, are negatives to train with.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> question = {"answers": "A", "options": ["f : tea .", "f : no ."], "article": "f : hi . m : what ?", "id": "1"}
    >>> _ = (folder / "dev_1.txt").write_text(json.dumps(question))
    >>> read_mutual(folder)[0].query, read_mutual(folder)[0].positives
    (('f : hi .', 'm : what ?'), ('f : tea .',))
    """
    folder = Path(path)
    if not folder.is_dir():
        given = "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {given}, expected a folder of questions")
    files = sorted(folder.glob("*.txt"), key=lambda file: [int(digits) for digits in re.findall(r"\d+", file.stem)])
    if not files:
        raise DataError(f"{folder}: no questions, expected files such as dev_1.txt")
    examples = []
    for file in files:
        record = read_json(file)
        with located(file):
            examples.append(_example(record))
    return examples


def source(path: str, seed: int) -> Source:
    """``mutual:PATH``: the folder with ``train`` and ``dev`` in it, or one of them."""
    folder = Path(path)
    if not (folder / "train").is_dir():
        return _by_article(folder)
    return with_validation(_by_article(folder / "train"), read_mutual(folder / "dev"), None, seed)


def _by_article(folder: Path) -> Source:
    """Keeps questions about one article together. They begin alike, and end where the question is asked."""
    articles: dict[str, list[Example]] = {}
    for example in read_mutual(folder):
        articles.setdefault(" ".join(example.query)[:60], []).append(example)
    return Source.of(list(articles.values()))


def _example(record: Any) -> Example:
    check_object(record, "article, options and answers")
    check_fields(record, "article", "options", "answers")
    article, options, answer = record["article"], record["options"], record["answers"]
    if not isinstance(article, str):
        raise DataError(f"article: expected text, given {shortened(article)}")
    check_list("options", options, "texts")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        blank = " (the test split's answers are not public)" if answer == " " else ""
        raise DataError(f"answers: expected one letter of {letters}, given {shortened(answer)}{blank}")
    right = options[letters.index(answer)]
    wrong = [option for option in options if option != right]
    return Example(_TURN.split(article.strip()), right, wrong, candidates=options)
