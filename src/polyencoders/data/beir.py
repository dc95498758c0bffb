"""Reads sets for retrieval: a corpus, queries, and judgements of which documents are relevant.

BEIR's folders (Thakur et al., 2021), and SciFact (Wadden et al., EMNLP 2020), whose task is BEIR's: a claim's relevant
documents are the abstracts that it cites.
"""

import ast
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from polyencoders.data.examples import Example, check_text, shortened
from polyencoders.data.lines import (
    beginning,
    check_object,
    item,
    nothing_left,
    number_left_out,
    numbered_lines,
    parse_json,
)
from polyencoders.data.sources import Source, with_validation
from polyencoders.data.splits import Splits
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.errors import DataError

logger = logging.getLogger(__name__)

Qrels = dict[str, dict[str, int]]  # For each query's id, how relevant each judged document is, by its id
# numpy prints a list of strings with one on each line, in single or double quotes.
_SENTENCE = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Queries and the corpus that they search, as texts by id, and which documents are relevant.

    `qrels` has for each split (``"train"``, ``"dev"``, ``"test"``, or some) how relevant documents are to queries, by
    ids. Documents are in the file's order, with the title first where there is one.

    >>> tea = Retrieval({"d1": "Tea is a drink."}, {"q1": "What is tea?"}, {"test": {"q1": {"d1": 1}}})
    >>> tea, tea.examples("test")[0].positives
    (Retrieval(1 documents, 1 queries, qrels: test 1), ('Tea is a drink.',))
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, Qrels]
    leave_out_own: bool = False
    """Whether a document whose id is the query's, and that is not judged relevant to it, is the query itself: it does
    not rank itself, as in BEIR's ArguAna."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {sum(map(len, qrels.values()))}" for split, qrels in self.qrels.items())
        return f"Retrieval({len(self.corpus)} documents, {len(self.queries)} queries, qrels: {counts})"

    def judgements(self, split: str) -> Qrels:
        """Returns the judgements of one split; a split that the set does not have is a DataError."""
        if split not in self.qrels:
            raise DataError(f"no judgements for {split!r}: there are {', '.join(self.qrels)}")
        return self.qrels[split]

    def examples(self, split: str) -> list[Example]:
        """Returns the queries of one split with their relevant documents, in the order of the judgements.

        Positives are the documents judged above 0; negatives those judged 0 or below, unless the same text is a
        positive. Queries and documents that are not there or empty, and queries without a positive, are left out.
        There are no candidates: every query ranks the corpus. A split that the set does not have is a DataError.
        """
        examples = []
        for query, judged in self.judgements(split).items():
            texts = [(self.corpus.get(document, ""), relevance) for document, relevance in judged.items()]
            right = [text for text, relevance in texts if text and relevance > 0]
            wrong = [text for text, relevance in texts if text and relevance <= 0 and text not in right]
            if right and self.queries.get(query):
                examples.append(Example(self.queries[query], right, wrong))
        return examples

    def own(self, query: str, judged: Mapping[str, int]) -> str | None:
        """Returns the id of the document that a query itself is, if there is one; `judged` are its judgements."""
        return query if self.leave_out_own and query in self.corpus and judged.get(query, 0) <= 0 else None

    @property
    def reported(self) -> str:
        """The split that figures are reported on: ``test``, or what the set has in its place."""
        return next(split for split in ("test", "dev", "train") if split in self.qrels)


def read_beir(path: str | os.PathLike[str]) -> Retrieval:
    """Reads a BEIR folder. A document's text is its title, a space, and its text.

    `path` is a folder with ``corpus.jsonl`` (``{"_id": "d1", "title": "...", "text": "..."}``; the title may be missing
    or empty), ``queries.jsonl`` (``{"_id": "q1", "text": "..."}``), and in ``qrels/`` one or more of ``train.tsv``,
    ``dev.tsv`` and ``test.tsv``: a header, then ``query-id<tab>corpus-id<tab>score``; or without a header, or as
    trec_eval has them (``query 0 document score``), which a warning says. Plain or gzipped. A DataError names the file
    and the line; within `leaving_out_bad` the line is left out. Empty documents are kept. A warning says how many
    judged documents and queries are not there, and how many queries have a document of the same id
    (`Retrieval.leave_out_own`).

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "corpus.jsonl").write_text('{"_id": "d1", "title": "Tea", "text": "A drink."}')
    >>> _ = (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "What is tea?"}')
    >>> (folder / "qrels").mkdir()
    >>> _ = (folder / "qrels" / "test.tsv").write_text("query-id\\tcorpus-id\\tscore\\nq1\\td1\\t1\\n")
    >>> read_beir(folder).examples("test")
    [Example(query=('What is tea?',), positives=('Tea A drink.',), negatives=(), candidates=None)]
    """
    folder = Path(path)
    corpus = _texts(_plain_or_gzipped(folder / "corpus.jsonl"))
    queries = _texts(_plain_or_gzipped(folder / "queries.jsonl"))
    qrels = {}
    for split in ("train", "dev", "test"):
        file = _plain_or_gzipped(folder / "qrels" / f"{split}.tsv")
        if file.exists():
            qrels[split] = _qrels(file)
    if not qrels:
        raise DataError(f"{folder / 'qrels'}: no judgements: expected train.tsv, dev.tsv or test.tsv")
    _say_what_is_missing(folder, qrels, queries, corpus)
    found = Retrieval(corpus, queries, qrels, leave_out_own=True)
    if own := sum(found.own(query, judged) is not None for some in qrels.values() for query, judged in some.items()):
        logger.warning("%s: %d queries have a document of the same id: they do not rank it, as in BEIR", folder, own)
    return found


def _say_what_is_missing(
    folder: Path, qrels: dict[str, Qrels], queries: Collection[str], corpus: Collection[str]
) -> None:
    asked = {query for judged in qrels.values() for query in judged}
    judged = {document for found in qrels.values() for documents in found.values() for document in documents}
    if not asked & set(queries) or not judged & set(corpus):
        what = "documents" if asked & set(queries) else "queries"
        raise DataError(f"{folder}: none of the judged {what} is there: are the ids those of another set?")
    gone = [
        f"{len(names - set(there)):,} of {len(names):,} judged {what} (such as {shortened(min(names - set(there)))})"
        for what, names, there in (("queries", asked, queries), ("documents", judged, corpus))
        if names - set(there)
    ]
    if gone:
        logger.warning("%s: %s are not there; they count as not found", folder, " and ".join(gone))


def read_scifact(path: str | os.PathLike[str]) -> Retrieval:
    """Reads SciFact from CSV tables.

    `path` is a folder with ``corpus_train.csv`` (doc_id, title, abstract), ``claims_train.csv`` and
    ``claims_validation.csv`` (id, claim, cited_doc_ids; a claim has a row for each piece of evidence). The test split
    is not public.

    A document is its title, a space and its abstract; there are 5,183. ``train`` has 809 claims, and ``test`` the 300
    of the set's validation split, as in BEIR. A DataError names the file and the line; within `leaving_out_bad` the
    row is left out.
    """
    folder = Path(path)
    corpus: dict[str, str] = {}
    before = number_left_out()
    file = folder / "corpus_train.csv"
    for number, row in named_rows(file, ",", has_columns("doc_id", "title", "abstract")):
        with item(f"{file}:{number}"):
            if row["doc_id"] in corpus:
                raise DataError(f"the doc_id {row['doc_id']} is given twice")
            corpus[row["doc_id"]] = f"{row['title']} {_abstract(row['abstract'])}".strip()
    if not corpus:
        raise nothing_left(file, "no documents under the header", before)
    queries: dict[str, str] = {}
    qrels = {
        "train": _claims(folder / "claims_train.csv", queries, corpus),
        "test": _claims(folder / "claims_validation.csv", queries, corpus),
    }
    return Retrieval(corpus, queries, qrels)


def source(path: str, seed: int) -> Source:
    """``beir:PATH``: the folder."""
    return _source(Path(path), read_beir(path), seed)


def scifact_source(path: str, seed: int) -> Source:
    """``scifact:PATH``: the folder."""
    return _source(Path(path), read_scifact(path), seed)


def _source(path: Path, judged: Retrieval, seed: int) -> Source:
    """Returns a set's splits with its corpus.

    A set of one split that is not ``train`` has no training side, and one of ``test`` nothing to choose by; one of
    ``train`` alone is a plain list.
    """
    splits = {split: judged.examples(split) for split in judged.qrels}
    if "train" not in splits:
        dev, test = splits.get("dev"), splits.get("test")
        found = Source([], Splits([], dev or [], test or dev or []))
    elif len(splits) > 1:
        found = with_validation(path, Source(splits["train"]), splits.get("dev"), splits.get("test"), seed)
    else:
        found = Source(splits["train"])
    return replace(found, corpus=tuple(dict.fromkeys(filter(None, judged.corpus.values()))), judged=judged)


def _add_judgement(qrels: Qrels, query: str, document: str, relevance: int) -> None:
    """Adds a judgement, unless an earlier one contradicts it."""
    if qrels.setdefault(query, {}).setdefault(document, relevance) != relevance:
        raise DataError(f"document {document!r} is judged twice for query {query!r}, differently")


def _plain_or_gzipped(path: Path) -> Path:
    gzipped = path.with_name(f"{path.name}.gz")
    return gzipped if gzipped.exists() and not path.exists() else path


def _texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    before = number_left_out()
    for number, line in numbered_lines(path):
        with item(f"{path}:{number}"):
            record = parse_json(line)
            check_object(record, "_id and text")
            if isinstance(record.get("_id"), int) and not isinstance(record["_id"], bool):
                record["_id"] = str(record["_id"])
            for name in ("_id", "text"):
                if not isinstance(record.get(name), str):
                    raise DataError(f'expected "{name}" to be text, given {shortened(record.get(name))}')
            if record["_id"] in texts:
                raise DataError(f"the _id {shortened(record['_id'])} is given twice")
            text = f"{record.get('title') or ''} {record['text']}".strip()
            if text:  # some published documents are empty; they stay, so that figures are those of others
                check_text("text", text)
            texts[record["_id"]] = text
    if not texts:
        raise nothing_left(path, "no texts: the file is empty, expected one JSON object a line", before)
    return texts


def _qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    before = number_left_out()
    for number, (query, document, score) in _judgements(path):
        with item(f"{path}:{number}"):
            try:
                relevance = float(score)
            except ValueError:
                relevance = nan
            if not relevance.is_integer():
                raise DataError(f"score: expected a whole number, given {shortened(score)}")
            _add_judgement(qrels, query, document, int(relevance))
    if not qrels:
        raise nothing_left(path, "no judgements under the header", before)
    if all(relevance <= 0 for judged in qrels.values() for relevance in judged.values()):
        raise DataError(f"{path}: no document is judged above 0: nothing is relevant")
    return qrels


def _judgements(path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yields queries, documents and scores, with the numbers of their lines."""
    names = ("query-id", "corpus-id", "score")
    first = next(iter(beginning(path).splitlines()), "").split()
    if len(first) not in (3, 4) or not re.fullmatch(r"[+-]?\d+(\.0*)?", first[-1]):
        for number, row in named_rows(path, "\t", has_columns(*names)):
            yield number, (row[names[0]], row[names[1]], row[names[2]])
        return
    kind = "query, document, score" if len(first) == 3 else "query, 0, document, score, as trec_eval has them"
    logger.warning("%s: there is no header; the columns are %s", path, kind)
    for number, line in numbered_lines(path):
        fields = line.split()
        with item(f"{path}:{number}"):
            if len(fields) != len(first):
                raise DataError(f"{len(fields)} fields, expected {len(first)}, as the first line has")
            yield number, (fields[0], fields[-2], fields[-1])


def _claims(path: Path, queries: dict[str, str], corpus: dict[str, str]) -> Qrels:
    qrels: Qrels = {}
    before = number_left_out()
    for number, row in named_rows(path, ",", has_columns("id", "claim", "cited_doc_ids")):
        with item(f"{path}:{number}"):
            if queries.setdefault(row["id"], row["claim"]) != row["claim"]:
                raise DataError(f"the id {row['id']} is given to two claims")
            if not re.fullmatch(r"\[[\d\s,]*\]", row["cited_doc_ids"]):
                raise DataError(f"cited_doc_ids: expected whole numbers in brackets, given {row['cited_doc_ids']!r}")
            for document in re.findall(r"\d+", row["cited_doc_ids"]):
                if document not in corpus:
                    raise DataError(f"document {document!r} is not among the {len(corpus)}")
                _add_judgement(qrels, row["id"], document, 1)
    if not qrels:
        raise nothing_left(path, "no claims that cite a document", before)
    return qrels


def _abstract(text: str) -> str:
    """Joins the sentences of a printed list. Other text stays as it is."""
    if not text.startswith("["):
        return text
    sentences = _SENTENCE.findall(text)
    try:
        return " ".join(ast.literal_eval(sentence).strip() for sentence in sentences)
    except (SyntaxError, ValueError) as error:
        given = shortened(text)
        raise DataError(f"abstract: expected a printed list of sentences, given {given}: {error.args[0]}") from None
