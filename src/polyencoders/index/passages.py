"""Documents that an index keeps as passages: each passage a row that says whose it is, and a document found once.

The best passage is a document's score. A search for k documents asks for more than k passages, and for more again until
k different documents are among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polyencoders.encoders import Encoder
from polyencoders.encoders.passages import passages_of
from polyencoders.errors import DataError
from polyencoders.index.documents import LONGEST_ID, PASSAGE, PASSAGE_OF, document, passage_id, rows_of, text_hash_of
from polyencoders.index.searching import Answer, IndexHit, Wanted
from polyencoders.index.table import Table, vectors_in

if TYPE_CHECKING:
    from polyencoders.index.reader import Reader

AT_ONCE = 256  # Documents whose tokens are held at a time
AT_FIRST = 4  # Passages that a search asks for, for each document it wants

Find = Callable[[NDArray[np.float64], Wanted], list[Answer]]
"""Finds passages: the k best for each of some query codes `(q, m, d)`."""


def keeps_passages(schema: pa.Schema) -> bool:
    """Whether some documents of a table with this schema are kept as passages."""
    kinds = dict(zip(schema.names, schema.types, strict=True))
    whose, which = kinds.get(PASSAGE_OF), kinds.get(PASSAGE)
    return whose is not None and pa.types.is_string(whose) and which is not None and pa.types.is_integer(which)


class Cutter:
    """Rows for the passages of documents, one after another; knows which older rows they leave behind once written.

    Of each document its id is kept until then, and how many passages it has.
    """

    def __init__(self, documents: Iterable[Any], model: Encoder | None) -> None:
        self._documents, self._model = documents, model  # None: documents stay whole
        self._made: deque[tuple[int, str, int]] = deque()
        """One entry a document: how many rows there are up to its last one, its id, and its number of passages.

        A document of one passage is a row by itself.
        """

    def __iter__(self) -> Iterator[Any]:
        place, rows, stream = 0, 0, iter(rows_of(self._documents))
        while some := list(islice(stream, AT_ONCE)):
            checked = [document(row, place + number) for number, row in enumerate(some)]
            place += len(some)
            cut = passages_of(self._model, [str(one.text) for one in checked]) if self._model is not None else None
            for number, (row, one) in enumerate(zip(some, checked, strict=True)):
                texts = cut[number] if cut is not None else [one.text]
                rows += len(texts)
                self._made.append((rows, one.id, len(texts)))
                if len(texts) == 1:
                    yield row
                    continue
                if taken := {PASSAGE, PASSAGE_OF} & one.metadata.keys():
                    raise DataError(
                        f"document {one.id!r}: its metadata {sorted(taken)[0]!r} has a name by which an index knows "
                        "passages: rename it"
                    )
                if (most := LONGEST_ID - len(passage_id("", len(texts)))) < len(one.id):
                    raise DataError(
                        f"document {place - len(some) + number} (id {one.id[:40]!r}...): it is kept as {len(texts)} "
                        f"passages, whose ids begin with its own: expected one of at most {most} characters, got "
                        f"{len(one.id):,}"
                    )
                for passage, text in enumerate(texts, start=1):
                    told = {PASSAGE_OF: one.id, PASSAGE: passage}
                    yield {**one.metadata, "id": passage_id(one.id, passage), "text": text, **told}

    def left_behind(self, table: Table, written: int | None = None) -> list[str]:
        """Ids of rows that documents had before and have no longer: of those that end among so many rows; None: all.

        It is asked once of each document.
        """
        gone: list[str] = []
        passages: dict[str, int] = {}
        while self._made and (written is None or self._made[0][0] <= written):
            _, id, number = self._made.popleft()
            passages[id] = number
        if keeps_passages(table.schema):
            rows = table.find(PASSAGE_OF, list(passages), ["id", PASSAGE_OF, PASSAGE])
            columns = (rows[name].to_pylist() for name in ("id", PASSAGE_OF, PASSAGE))
            for id, whose, passage in zip(*columns, strict=True):
                number = passages[whose]
                if number == 1 or passage is None or passage > number:
                    gone.append(id)
        cut = [id for id, number in passages.items() if number > 1]
        gone += table.find("id", cut, ["id"])["id"].to_pylist()
        return gone


def find_documents(find: Find, codes: NDArray[np.float64], wanted: Wanted, rows: int) -> list[Answer]:
    """The best documents of each query, of an index of so many rows."""
    answers: dict[int, Answer] = {}
    asked = min(rows, AT_FIRST * wanted.k)
    while len(answers) < len(codes):
        missing = [query for query in range(len(codes)) if query not in answers]
        words = wanted.words
        if words is not None:
            words = words._replace(queries=[words.queries[query] for query in missing])
        found = find(codes[missing], wanted._replace(k=max(1, asked), words=words))
        for query, answer in zip(missing, found, strict=True):
            documents = of_documents(answer, wanted.k)
            if len(documents) == wanted.k or len(answer) < asked or asked >= rows:
                answers[query] = documents
        asked = min(rows, 4 * asked)
    return [answers[query] for query in range(len(codes))]


def of_documents(answer: Answer, k: int) -> Answer:
    """The k best documents of an answer of passages, each once, by its best passage, and what is proven of them."""
    best: dict[str, IndexHit] = {}
    for hit in answer:
        id = str(hit.metadata.get(PASSAGE_OF) or hit.id)
        best.setdefault(id, hit._replace(id=id))
    # Equal scores by id, as of whole documents.
    hits = sorted(best.values(), key=lambda hit: (-hit.score, hit.id))
    # Nothing that was not found scores above the answer's bound; of what was found, the next document is the best.
    bound = max([answer.bound, *(hit.score for hit in hits[k : k + 1])])
    hits = hits[:k]
    worst = hits[-1].score if len(hits) == k else -np.inf
    certified = answer.certified or worst >= bound
    return replace(answer, hits=hits, certified=certified, bound=min(bound, worst) if certified else bound)


class Kept(NamedTuple):
    """How a text is kept: the ids of the documents that have it, and the vectors `(p, d)` of its p passages."""

    ids: frozenset[str]
    vectors: NDArray[np.float32]


def kept_texts(index: Reader, texts: Iterable[str]) -> dict[str, Kept]:
    """How an index keeps texts, of those that are documents in it, whole or as passages.

    A text that is one passage of a document stands for that document.
    """
    table, texts = index.snapshot.table, list(dict.fromkeys(texts))
    cut = passages_with(index, texts)
    columns = ["id", "text", "vector", *([PASSAGE_OF, PASSAGE] if keeps_passages(table.schema) else [])]
    found = table.find("text_hash", sorted({text_hash_of(text) for text in chain(texts, *cut)}), columns)
    vectors = dict(zip(found["text"].to_pylist(), vectors_in(found), strict=True))
    owners: dict[str, set[str]] = {}
    numbered: dict[tuple[str, int], set[str]] = {}  # Documents by a passage's text and number
    for row in found.drop_columns(["vector"]).to_pylist():
        owner = row.get(PASSAGE_OF) or row["id"]
        owners.setdefault(row["text"], set()).add(owner)
        if row.get(PASSAGE) is not None:
            numbered.setdefault((row["text"], row[PASSAGE]), set()).add(owner)
    kept = {text: (set(owners.get(text, ())), [vectors[text]] if text in owners else []) for text in texts}
    for text, passages in zip(texts, cut, strict=True):
        if len(passages) > 1:
            have_all = [numbered.get((passage, number), set()) for number, passage in enumerate(passages, start=1)]
            owning = set.intersection(*have_all)
            longer = {owner for owner in owning if _passages_of(table, owner) > len(passages)}
            if owning - longer:
                kept[text][0].update(owning - longer)
                kept[text][1].extend(vectors[passage] for passage in passages)
    return {text: Kept(frozenset(ids), np.stack(some)) for text, (ids, some) in kept.items() if ids}


def passages_with(index: Reader, texts: Sequence[str]) -> list[list[str]]:
    """The passages of each text as an index would keep them; the text alone where it keeps none."""
    if keeps_passages(index.snapshot.table.schema):
        return passages_of(index.loaded_model(), texts)
    return [[text] for text in texts]


def _passages_of(table: Table, id: str) -> int:
    return int(table.find(PASSAGE_OF, [id], [PASSAGE]).num_rows)
