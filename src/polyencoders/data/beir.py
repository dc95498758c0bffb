"""Reads BEIR folders: a corpus, queries, and judgements of which documents are relevant (Thakur et al., 2021)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from polyencoders.data.examples import Example, check_text, shortened
from polyencoders.data.lines import located, numbered_lines, parse_json
from polyencoders.data.sources import Source, with_validation
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.errors import DataError

Qrels = dict[str, dict[str, int]]
"""For each query's id, how relevant each judged document is, by its id."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A retrieval set: queries, a corpus that all of them search, and which documents are relevant.

    Attributes
    ----------
    corpus
        Each document's text, by id, in the file's order; with the title before it, where it has one.
    queries
        Each query's text, by id.
    qrels
        For each split (``"train"``, ``"dev"``, ``"test"``; not every set has each), how relevant documents are to
        queries, by ids.

    Examples
    --------
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
        positive. Queries without a positive are left out. There are no candidates: every query ranks the corpus, with
        `given_corpus` of `polyencoders.evaluation`. A split that the set does not have is a DataError.
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
    """Reads a BEIR folder.

    Parameters
    ----------
    path
        A folder with ``corpus.jsonl`` (``{"_id": "d1", "title": "...", "text": "..."}``; the title may be missing or
        empty), ``queries.jsonl`` (``{"_id": "q1", "text": "..."}``), and in ``qrels/`` one or more of ``train.tsv``,
        ``dev.tsv`` and ``test.tsv``: a header, then ``query-id<tab>corpus-id<tab>score``. Plain or gzipped.

    Returns
    -------
    Retrieval
        A document's text is its title, a space, and its text.

    Raises
    ------
    DataError
        When a file is missing, a line cannot be used, an id is given twice, or a judgement names a query or a document
        that does not exist. The message begins with the file and the line number.

    Examples
    --------
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


def source(path: str, seed: int) -> Source:
    """``beir:PATH``: a BEIR folder."""
    return read_beir(path).source(seed)


def add_judgement(
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
            if not isinstance(record, dict):
                raise DataError(f"expected an object with _id and text, given {shortened(record)}")
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
            add_judgement(qrels, row["query-id"], row["corpus-id"], relevance, queries, corpus)
    if not qrels:
        raise DataError(f"{path}: no judgements under the header")
    return qrels
