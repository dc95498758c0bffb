"""Reads SciFact as CSV tables: claims, and the abstracts that bear on them (Wadden et al., EMNLP 2020).

The task is BEIR's: the relevant documents of a claim are the abstracts that it cites.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

from polyencoders.data.beir import Qrels, Retrieval, add_judgement
from polyencoders.data.lines import located
from polyencoders.data.sources import Source
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.errors import DataError

# numpy prints a list of strings with one on each line, in single or double quotes.
_SENTENCE = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")


def read_scifact(path: str | os.PathLike[str]) -> Retrieval:
    """Reads SciFact from CSV tables.

    Parameters
    ----------
    path
        A folder with ``corpus_train.csv`` (doc_id, title, abstract, structured), ``claims_train.csv`` and
        ``claims_validation.csv`` (id, claim, evidence_doc_id, ..., cited_doc_ids; a claim has a row for each piece of
        evidence). The answers of the test split are not public.

    Returns
    -------
    Retrieval
        5,183 documents, each its title, a space and its abstract. There are ``train`` and ``test``, which is the set's
        validation split, as in BEIR: 809 and 300 claims, to which 919 and 339 documents are relevant.

    Raises
    ------
    DataError
        When a file or a row cannot be used. The message begins with the file and the line number.
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
    for split, name in (("train", "claims_train.csv"), ("test", "claims_validation.csv")):
        qrels[split] = _claims(folder / name, queries, corpus)
    return Retrieval(corpus, queries, qrels)


def source(path: str, seed: int) -> Source:
    """``scifact:PATH``: the folder with the tables."""
    return read_scifact(path).source(seed)


def _claims(path: Path, queries: dict[str, str], corpus: dict[str, str]) -> Qrels:
    qrels: Qrels = {}
    for number, row in named_rows(path, ",", has_columns("id", "claim", "cited_doc_ids")):
        with located(f"{path}:{number}"):
            if queries.setdefault(row["id"], row["claim"]) != row["claim"]:
                raise DataError(f"the id {row['id']} is given to two claims")
            if not re.fullmatch(r"\[[\d\s,]*\]", row["cited_doc_ids"]):
                raise DataError(f"cited_doc_ids: expected whole numbers in brackets, given {row['cited_doc_ids']!r}")
            for document in re.findall(r"\d+", row["cited_doc_ids"]):
                add_judgement(qrels, row["id"], document, 1, queries, corpus)
    return qrels


def _abstract(text: str) -> str:
    """Joins the sentences of a printed list. Other text stays as it is."""
    if not text.startswith("["):
        return text
    return " ".join(ast.literal_eval(sentence).strip() for sentence in _SENTENCE.findall(text))
