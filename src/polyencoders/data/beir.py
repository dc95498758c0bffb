"""Reads sets for retrieval: a corpus, queries, and judgements of which documents are relevant.

BEIR's folders (Thakur et al., 2021), and SciFact (Wadden et al., EMNLP 2020), whose task is BEIR's: a claim's relevant
documents are the abstracts that it cites.
"""

import ast
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from polyencoders.data.examples import Example, check_text, shortened
from polyencoders.data.lines import check_object, located, numbered_lines, parse_json
from polyencoders.data.sources import Source, with_validation
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.errors import DataError

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

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {sum(map(len, qrels.values()))}" for split, qrels in self.qrels.items())
        return f"Retrieval({len(self.corpus)} documents, {len(self.queries)} queries, qrels: {counts})"

    def examples(self, split: str) -> list[Example]:
        """Returns the queries of one split with their relevant documents, in the order of the judgements.

        Positives are the documents judged above 0; negatives those judged 0 or below, unless the same text is a
        positive. Queries without a positive are left out. There are no candidates: every query ranks the corpus. A
        split that the set does not have is a DataError.
        """
        if split not in self.qrels:
            raise DataError(f"no judgements for {split!r}: there are {', '.join(self.qrels)}")
        examples = []
        for query, judged in self.qrels[split].items():
            right = [self.corpus[document] for document, relevance in judged.items() if relevance > 0]
            wrong = [self.corpus[document] for document, relevance in judged.items() if relevance <= 0]
            if right:
                examples.append(Example(self.queries[query], right, [text for text in wrong if text not in right]))
        return examples

    def source(self, seed: int) -> Source:
        """Returns the set's splits with its corpus, as `load_examples` reads it."""
        splits = {split: self.examples(split) for split in self.qrels}
        if "train" in splits and len(splits) > 1:
            found = with_validation(Source(splits["train"]), splits.get("dev"), splits.get("test"), seed)
        else:
            found = Source([example for examples in splits.values() for example in examples])
        return replace(found, corpus=tuple(dict.fromkeys(self.corpus.values())))


def read_beir(path: str | os.PathLike[str]) -> Retrieval:
    """Reads a BEIR folder. A document's text is its title, a space, and its text.

    `path` is a folder with ``corpus.jsonl`` (``{"_id": "d1", "title": "...", "text": "..."}``; the title may be missing
    or empty), ``queries.jsonl`` (``{"_id": "q1", "text": "..."}``), and in ``qrels/`` one or more of ``train.tsv``,
    ``dev.tsv`` and ``test.tsv``: a header, then ``query-id<tab>corpus-id<tab>score``. Plain or gzipped. A DataError
    names the file and the line.

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
            qrels[split] = _qrels(file, queries, corpus)
    if not qrels:
        raise DataError(f"{folder / 'qrels'}: no judgements: expected train.tsv, dev.tsv or test.tsv")
    return Retrieval(corpus, queries, qrels)


def read_scifact(path: str | os.PathLike[str]) -> Retrieval:
    """Reads SciFact from CSV tables.

    `path` is a folder with ``corpus_train.csv`` (doc_id, title, abstract), ``claims_train.csv`` and
    ``claims_validation.csv`` (id, claim, cited_doc_ids; a claim has a row for each piece of evidence). The test split
    is not public.

    A document is its title, a space and its abstract; there are 5,183. ``train`` has 809 claims, and ``test`` the 300
    of the set's validation split, as in BEIR. A DataError names the file and the line.
    """
    folder = Path(path)
    corpus: dict[str, str] = {}
    file = folder / "corpus_train.csv"
    for number, row in named_rows(file, ",", has_columns("doc_id", "title", "abstract")):
        if row["doc_id"] in corpus:
            raise DataError(f"{file}:{number}: the doc_id {row['doc_id']} is given twice")
        corpus[row["doc_id"]] = f"{row['title']} {_abstract(row['abstract'])}".strip()
    queries: dict[str, str] = {}
    qrels = {
        "train": _claims(folder / "claims_train.csv", queries, corpus),
        "test": _claims(folder / "claims_validation.csv", queries, corpus),
    }
    return Retrieval(corpus, queries, qrels)


def _add_judgement(
    qrels: Qrels, query: str, document: str, relevance: int, queries: Mapping[str, str], corpus: Mapping[str, str]
) -> None:
    """Adds a judgement, unless its query or document does not exist, or an earlier judgement contradicts it."""
    for what, key, known in (("query", query, queries), ("document", document, corpus)):
        if key not in known:
            raise DataError(f"{what} {shortened(key)} is not among the {len(known)}")
    if qrels.setdefault(query, {}).setdefault(document, relevance) != relevance:
        raise DataError(f"document {document!r} is judged twice for query {query!r}, differently")


def _plain_or_gzipped(path: Path) -> Path:
    gzipped = path.with_name(f"{path.name}.gz")
    return gzipped if gzipped.exists() and not path.exists() else path


def _texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in numbered_lines(path):
        with located(f"{path}:{number}"):
            record = parse_json(line)
            check_object(record, "_id and text")
            for name in ("_id", "text"):
                if not isinstance(record.get(name), str):
                    raise DataError(f'expected "{name}" to be text, given {shortened(record.get(name))}')
            if record["_id"] in texts:
                raise DataError(f"the _id {shortened(record['_id'])} is given twice")
            text = f"{record.get('title') or ''} {record['text']}".strip()
            check_text("text", text)
        texts[record["_id"]] = text
    if not texts:
        raise DataError(f"{path}: the file is empty, expected one JSON object a line")
    return texts


def _qrels(path: Path, queries: Mapping[str, str], corpus: Mapping[str, str]) -> Qrels:
    qrels: Qrels = {}
    for number, row in named_rows(path, "\t", has_columns("query-id", "corpus-id", "score")):
        with located(f"{path}:{number}"):
            try:
                relevance = int(row["score"])
            except ValueError:
                raise DataError(f"score: expected a whole number, given {shortened(row['score'])}") from None
            _add_judgement(qrels, row["query-id"], row["corpus-id"], relevance, queries, corpus)
    if not qrels:
        raise DataError(f"{path}: no judgements under the header")
    return qrels


def _claims(path: Path, queries: dict[str, str], corpus: dict[str, str]) -> Qrels:
    qrels: Qrels = {}
    for number, row in named_rows(path, ",", has_columns("id", "claim", "cited_doc_ids")):
        with located(f"{path}:{number}"):
            if queries.setdefault(row["id"], row["claim"]) != row["claim"]:
                raise DataError(f"the id {row['id']} is given to two claims")
            if not re.fullmatch(r"\[[\d\s,]*\]", row["cited_doc_ids"]):
                raise DataError(f"cited_doc_ids: expected whole numbers in brackets, given {row['cited_doc_ids']!r}")
            for document in re.findall(r"\d+", row["cited_doc_ids"]):
                _add_judgement(qrels, row["id"], document, 1, queries, corpus)
    return qrels


def _abstract(text: str) -> str:
    """Joins the sentences of a printed list. Other text stays as it is."""
    if not text.startswith("["):
        return text
    return " ".join(ast.literal_eval(sentence).strip() for sentence in _SENTENCE.findall(text))
