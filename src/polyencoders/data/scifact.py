"""SciFact as CSV tables: claims, and the abstracts that bear on them (Wadden et al., EMNLP 2020).

The same task as BEIR's, whose judgements are the abstracts that each claim cites; BEIR's own folder is ``beir.py``'s.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from polyencoders.data.beir import Retrieval, add_judgement
from polyencoders.data.sides import Source
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.data.trec import Qrels
from polyencoders.errors import DataError

# numpy's way to print a list of strings: quoted one way or the other, a line each.
_SENTENCE = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")


def read_scifact(path: str | os.PathLike[str]) -> Retrieval:
    """Reads SciFact from CSV tables.

    Parameters
    ----------
    path
        A folder with ``corpus_train.csv`` (doc_id, title, abstract, structured), ``claims_train.csv`` and
        ``claims_validation.csv`` (id, claim, evidence_doc_id, ..., cited_doc_ids; a claim has a row for each piece of
        evidence). The test side's answers are not public.

    Returns
    -------
    Retrieval
        5,183 documents, each its title, a space and its abstract; ``train`` and ``test``, which is the set's
        validation side, as in BEIR: 809 and 300 claims to which 919 and 339 documents are relevant, those they cite.

    Raises
    ------
    DataError
        When a file or a row cannot be used; the message begins with the file and the line number.
    """
    folder = Path(path)
    corpus: dict[str, str] = {}
    file = folder / "corpus_train.csv"
    for number, row in named_rows(file, ",", has_columns("doc_id", "title", "abstract")):
        if row["doc_id"] in corpus:
            raise DataError(f"{file}:{number}: the doc_id {row['doc_id']} is given twice")
        corpus[row["doc_id"]] = f"{row['title']} {_abstract(row['abstract'])}".strip()
    queries: dict[str, str] = {}
    qrels = {}
    for side, name in (("train", "claims_train.csv"), ("test", "claims_validation.csv")):
        qrels[side] = _claims(folder / name, queries, corpus)
    return Retrieval(corpus, queries, qrels)


def source(path: str, seed: int) -> Source:
    """``scifact:PATH``: the folder with the tables."""
    return read_scifact(path).source(seed)


def _claims(path: Path, queries: dict[str, str], corpus: dict[str, str]) -> Qrels:
    qrels: Qrels = {}
    for number, row in named_rows(path, ",", has_columns("id", "claim", "cited_doc_ids")):
        try:
            if queries.setdefault(row["id"], row["claim"]) != row["claim"]:
                raise DataError(f"the id {row['id']} is given to two claims")
            if not re.fullmatch(r"\[[\d\s,]*\]", row["cited_doc_ids"]):
                raise DataError(f"cited_doc_ids: expected whole numbers in brackets, given {row['cited_doc_ids']!r}")
            for document in re.findall(r"\d+", row["cited_doc_ids"]):
                add_judgement(qrels, row["id"], document, 1, queries, corpus)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    return qrels


def _abstract(text: str) -> str:
    """The sentences of a printed list; a text that is none stays as it is."""
    if not text.startswith("["):
        return text
    return " ".join(ast.literal_eval(sentence).strip() for sentence in _SENTENCE.findall(text))
