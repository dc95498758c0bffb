"""BEIR folders: a corpus, queries, and judgements of which documents are relevant to which (Thakur et al., 2021).

Knows the three kinds of files and how they become examples; the judgements of other formats come here as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from polyencoders.data.examples import Example, check_text, shortened
from polyencoders.data.lines import numbered_lines, parse_json
from polyencoders.data.sides import Source, with_validation
from polyencoders.data.tables import has_columns, named_rows
from polyencoders.data.trec import Qrels, whole_number
from polyencoders.errors import DataError


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A retrieval set: queries, a corpus that all of them search, and what is relevant.

    Attributes
    ----------
    corpus
        Each document's text, by id, in the file's order; with the title before it, where it has one.
    queries
        Each query's text, by id.
    qrels
        For each side (``"train"``, ``"dev"``, ``"test"``; not every set has each), how relevant documents are to
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
        counts = ", ".join(f"{side} {sum(map(len, qrels.values()))}" for side, qrels in self.qrels.items())
        return f"Retrieval({len(self.corpus)} documents, {len(self.queries)} queries, qrels: {counts})"

    def examples(self, side: str) -> list[Example]:
        """The queries of one side with what is relevant to them, for training, and for ranking the whole corpus.

        Parameters
        ----------
        side
            One of `qrels`.

        Returns
        -------
        list of Example
            In the order of the judgements. Positives are the documents judged above 0; negatives those judged 0 or
            below, unless the same text is a positive. Queries without a positive are left out. No candidates: every
            query ranks the corpus, with `given_corpus` of `polyencoders.evaluation`.

        Raises
        ------
        DataError
            When the set has no such side.
        """
        if side not in self.qrels:
            raise DataError(f"no judgements for {side!r}: there are {', '.join(self.qrels)}")
        examples = []
        for query, judged in self.qrels[side].items():
            right = [self.corpus[document] for document, relevance in judged.items() if relevance > 0]
            wrong = [self.corpus[document] for document, relevance in judged.items() if relevance <= 0]
            if right:
                examples.append(Example(self.queries[query], right, [text for text in wrong if text not in right]))
        return examples

    def source(self, seed: int) -> Source:
        """The set as examples on sides, and its corpus."""
        sides = {side: self.examples(side) for side in self.qrels}
        corpus = tuple(dict.fromkeys(self.corpus.values()))
        if "train" not in sides or len(sides) == 1:
            return Source([example for examples in sides.values() for example in examples], corpus=corpus)
        return with_validation(Source(sides["train"]), sides.get("dev"), sides.get("test"), seed, corpus)


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
        When a file is missing, a line cannot be used, an id is given twice, or a judgement is of a query or a document
        that is not there; the message begins with the file and the line number.

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
    for side in ("train", "dev", "test"):
        file = _plain_or_gzipped(folder / "qrels" / f"{side}.tsv")
        if file.exists():
            qrels[side] = _qrels(file, queries, corpus)
    if not qrels:
        raise DataError(f"{folder / 'qrels'}: no judgements: expected train.tsv, dev.tsv or test.tsv")
    return Retrieval(corpus, queries, qrels)


def source(path: str, seed: int) -> Source:
    """``beir:PATH``: a BEIR folder."""
    return read_beir(path).source(seed)


def add_judgement(
    qrels: Qrels, query: str, document: str, relevance: int, queries: Mapping[str, str], corpus: Mapping[str, str]
) -> None:
    """Puts a judgement into the qrels, unless it is of something that is not there, or contradicts one before."""
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
        try:
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
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        texts[record["_id"]] = text
    if not texts:
        raise DataError(f"{path}: the file is empty, expected one JSON object a line")
    return texts


def _qrels(path: Path, queries: Mapping[str, str], corpus: Mapping[str, str]) -> Qrels:
    qrels: Qrels = {}
    for number, row in _judgements(path):
        try:
            relevance = whole_number("score", row["score"])
            add_judgement(qrels, row["query-id"], row["corpus-id"], relevance, queries, corpus)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not qrels:
        raise DataError(f"{path}: no judgements under the header")
    return qrels


def _judgements(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    return named_rows(path, "\t", has_columns("query-id", "corpus-id", "score"))
