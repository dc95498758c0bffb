"""MuTual and MuTual+: what is said next in a conversation from a listening test, of four (Cui et al., ACL 2020).

Knows the folders of https://github.com/Nealcly/MuTual: a file for each question, JSON in a single line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from polyencoders.data.examples import Example, shortened
from polyencoders.data.lines import read_json
from polyencoders.data.sides import Conversations, Source, with_validation
from polyencoders.errors import DataError

# "m ; f :" is two people speaking at once: one turn.
_TURN = re.compile(r"(?<!;)\s+(?=[mf] ?:)", re.IGNORECASE)


def read_mutual(path: str | os.PathLike[str]) -> list[Example]:
    """Reads the questions of one side of MuTual.

    The test side's answers are not public, so figures are reported on ``dev``.

    Parameters
    ----------
    path
        A folder such as ``data/mutual/dev``, in which every ``.txt`` is a question:
        ``{"answers": "B", "options": ["m : ...", ...], "article": "f : ... m : ...", "id": "dev_1"}``.

    Returns
    -------
    list of Example
        By the numbers of the files. The query is the article's turns, each with its speaker, as the options have it;
        the options are the candidates, in their order, and the wrong ones, written to mislead, negatives to train with.

    Raises
    ------
    DataError
        When there are no questions, or one cannot be used; the message begins with the file.

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
        raise DataError(
            f"{folder}: {'a file' if folder.exists() else 'no such folder'}, expected a folder of questions"
        )
    files = sorted(folder.glob("*.txt"), key=lambda file: [int(digits) for digits in re.findall(r"\d+", file.stem)])
    if not files:
        raise DataError(f"{folder}: no questions, expected files such as dev_1.txt")
    examples = []
    for file in files:
        record = read_json(file)
        try:
            examples.append(_example(record))
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
    return examples


def source(path: str, seed: int) -> Source:
    """``mutual:PATH``: the folder with ``train`` and ``dev`` in it, or one of them."""
    folder = Path(path)
    if not (folder / "train").is_dir():
        return Source.of(_by_article(read_mutual(folder)))
    return with_validation(
        Source.of(_by_article(read_mutual(folder / "train"))), read_mutual(folder / "dev"), None, seed
    )


def _by_article(examples: list[Example]) -> Conversations:
    """Questions about the same article: they begin alike, and end where the question is asked."""
    articles: dict[str, list[Example]] = {}
    for example in examples:
        articles.setdefault(" ".join(example.query)[:60], []).append(example)
    return list(articles.values())


def _example(record: Any) -> Example:
    if not isinstance(record, dict):
        raise DataError(f"expected an object with article, options and answers, given {shortened(record)}")
    for name in ("article", "options", "answers"):
        if name not in record:
            raise DataError(f'no "{name}"; given only {shortened(list(record))}')
    article, options, answer = record["article"], record["options"], record["answers"]
    if not isinstance(article, str):
        raise DataError(f"article: expected text, given {shortened(article)}")
    if not isinstance(options, list) or not options:
        raise DataError(f"options: expected a list of texts, given {shortened(options)}")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options)]
    if not isinstance(answer, str) or len(answer) != 1 or answer not in letters:
        blank = " (the test side's answers are not public)" if answer == " " else ""
        raise DataError(f"answers: expected one letter of {letters}, given {shortened(answer)}{blank}")
    right = options[letters.index(answer)]
    wrong = [option for option in options if option != right]
    return Example(_TURN.split(article.strip()), right, wrong, candidates=options)
