"""An open index as its readers see it: one version at a time, its documents, and the search among them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders import Encoder, PairScorer, Query, Reranker, Words
from polyencoders.encoders.calibration import Calibration
from polyencoders.errors import IndexingError, ModelError
from polyencoders.index import searching
from polyencoders.index.arrays import as_array
from polyencoders.index.documents import (
    OWN_COLUMNS,
    PASSAGE,
    PASSAGE_OF,
    columns_of,
    json_columns,
    metadata_of,
    text_hash_of,
)
from polyencoders.index.layout import newest
from polyencoders.index.passages import find_documents, keeps_passages
from polyencoders.index.provenance import Maker, check_model, loaded
from polyencoders.index.reranking import at_least, reranked, with_probabilities
from polyencoders.index.searching import Answer, Wanted, hits_of
from polyencoders.index.snapshot import Snapshot
from polyencoders.index.table import Table, vectors_in
from polyencoders.index.tuning import TUNING, Tuning
from polyencoders.index.words import Asked

logger = logging.getLogger(__name__)

MODES = ("exact", "fast")

GivenReranker = Reranker | PairScorer | str | os.PathLike[str] | Literal[False] | None
"""A reranker, or what one is made of; None: what the index was tuned with; False: none."""


@dataclass(frozen=True)
class IndexInfo:
    """Facts about an index."""

    path: Path | str
    documents: int
    dimension: int
    version: int
    versions: int
    maker: Maker | None
    metadata: dict[str, str]  # The types of the metadata by name: what can be filtered by
    laid_out: int  # Documents that lie in the order of their neighbours; the others are searched beside them
    bytes: int  # The size of its files
    tuning: Tuning | None = None  # How it is searched unless it is said otherwise


class Reader:
    """What can be read and searched in an open index; see `Index`."""

    def __init__(self, table: Table, model: Encoder | None, maker: Maker | None) -> None:
        self.path = table.path
        self.model = model
        self.maker = maker  # What was kept of the model that made the index
        self._writer = table
        self._snapshot: Snapshot | None = None
        self._pinned: int | None = None
        self._reranker: tuple[Any, Reranker] | None = None  # The last one, and what it was made of
        self._tuning: tuple[Tuning | None] | None = None  # None: not read yet

    def __len__(self) -> int:
        return self.snapshot.size

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self):,} documents, version {self.version})"

    @property
    def snapshot(self) -> Snapshot:
        """The version that is looked at, with its vectors ready."""
        if self._snapshot is None:
            self._snapshot = self._latest()
        return self._snapshot

    @property
    def version(self) -> int:
        """The number of the version that is looked at."""
        return self.snapshot.version

    @property
    def whole(self) -> bool:
        """Whether all of it can be searched now; not while a machine that holds a slice of it is lost."""
        return True

    def refresh(self) -> None:
        """Look at the latest version; IndexingError if the index was opened at a version of its own."""
        self._check_writable()
        self._writer.refresh()
        if self._snapshot is None or self._snapshot.version != self._writer.version:
            self._snapshot = self._latest()

    def get(self, ids: Sequence[str | int]) -> list[dict[str, Any]]:
        """Documents by id, as they were added: those that are there, in the order asked for.

        In the place of a document that is kept as passages are its passages.
        """
        table = self.snapshot.table
        as_json = json_columns(table.schema)
        wanted = [str(id) for id in ids]
        rows = {row["id"]: row for row in table.find("id", wanted, columns_of(table.schema)).to_pylist()}
        passages: dict[str, list[Any]] = {}
        if keeps_passages(table.schema):
            parts = table.find(PASSAGE_OF, wanted, columns_of(table.schema)).sort_by(PASSAGE)
            for row in parts.to_pylist():
                passages.setdefault(row[PASSAGE_OF], []).append(row)
        found = [row for id in wanted for row in ([rows[id]] if id in rows else passages.get(id, []))]
        return [{"id": row["id"], "text": row["text"], **metadata_of(row, as_json)} for row in found]

    def vectors(self, ids: Sequence[str | int]) -> dict[str, NDArray[np.float32]]:
        """Vectors `(d,)` of documents by id, of those that are there."""
        rows = self.snapshot.table.find("id", [str(id) for id in ids], ["id", "vector"])
        return dict(zip(rows["id"].to_pylist(), vectors_in(rows), strict=True))

    def sample(self, number: int) -> list[dict[str, Any]]:
        """Some documents from all over the index; the same ones as long as it does not change."""
        snapshot = self.snapshot
        live = [np.flatnonzero(segment.live) for segment in snapshot.segments]
        there = np.array([(part, place) for part, places in enumerate(live) for place in _spread(places, number)])
        read = [snapshot.read(segment, place) for segment, place in _spread(there, number)]
        return [{"id": id, "text": text, **metadata} for id, text, metadata in read]

    def stored(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Vectors `(d,)` by text, of the texts that are documents here."""
        hashes = {text_hash_of(text) for text in texts}
        rows = self.snapshot.table.find("text_hash", sorted(hashes), ["text", "vector"])
        wanted = set(texts)
        found = zip(rows["text"].to_pylist(), vectors_in(rows), strict=True)
        return {text: vector for text, vector in found if text in wanted}

    def info(self) -> IndexInfo:
        """Facts about the index."""
        snapshot = self.snapshot
        return IndexInfo(
            path=self.path,
            documents=snapshot.size,
            dimension=snapshot.table.dimension,
            version=snapshot.version,
            versions=len(snapshot.table.versions()),
            maker=self.maker,
            metadata={field.name: str(field.type) for field in snapshot.table.schema if field.name not in OWN_COLUMNS},
            laid_out=snapshot.size - snapshot.beside,
            bytes=sum(file.size for file in self._writer.storage.files().values()),
            tuning=self.tuning,
        )

    def loaded_model(self) -> Encoder:
        """The model; if none was given, loaded from where it was. ModelError if that fails, or if it is another now."""
        if self.model is None:
            if self.maker is None:
                raise ModelError(
                    f"{self.path} does not know which model made its vectors: give query codes in place of texts"
                )
            if self.maker.name is None:
                raise ModelError(
                    f"{self.path} was made by {self.maker.label}, given as an object: open it with model=..."
                )
            found, name = loaded(self.maker.name)
            check_model(self.maker, Maker.of(found, name))
            self.model = found
        return self.model

    def search(
        self,
        queries: Any,
        k: int = 10,
        where: str | None = None,
        mode: str = "exact",
        share: float | None = None,
        temperature: float | None = None,
        *,
        words: bool | float | Words | None = None,
        texts: Sequence[Query] | None = None,
        rerank: GivenReranker = None,
        rerank_top: int | None = None,
        rerank_weight: float | None = None,
        rerank_budget: float | None = None,
        min_probability: float | None = None,
    ) -> Any:
        """Find the documents with the highest scores for a query, or for each of several.

        Parameters
        ----------
        queries
            A text; or a list of queries, each a text or a conversation (a list of turns, the oldest first); or query
            codes `(q, m, d)` or vectors `(q, d)`, as an array or tensor.
        k
            How many hits; fewer where there are fewer documents.
        where
            An SQL condition on `id`, `text` and the metadata: `"lang = 'en' AND year >= 2020"`.
        mode
            `exact`: proven to be the best of all documents. `fast`: the best of those in the most promising
            neighbourhoods, with a bound of what may have been missed.
        share
            The fraction of the documents that `fast` looks at; by default 0.07, and at least 40,000 documents.
        temperature
            Of the softmax over query codes that are given as such; by default the model's, or 1.
        words
            What the words of the queries count beside their vectors: True or a weight (`encoders.words`). The score of
            a document is then that of its vector plus the weight times its BM25, as a fraction of the most that the
            words of the query could give. None: as `polyencoders tune` has found; False: nothing.
        texts
            The queries as texts or conversations, for their words and a reranker, where `queries` are codes.
        rerank
            A cross-encoder, or where to load it from, that reads the best of the hits. None: as `polyencoders tune` has
            found, where the texts of the queries are given; False: none.
        rerank_top, rerank_weight, rerank_budget
            How many it reads (20), how much its score counts, and its milliseconds; as for `Reranker`.
        min_probability
            Hits that are less probable are left out. Only an index that was tuned knows probabilities, of searches as
            it was tuned for.

        Returns
        -------
        Answer, or list of Answer
            One for a text, a list for anything else. A hit is a document once: of one that is kept as passages it has
            the document's id, and the text and score of the best passage.

        Raises
        ------
        ValueError
            k is below 1, the mode another one, the share not between 0 and 1, or the codes do not fit; a reranker is
            given codes in place of texts; the words' weight is below 0, or there are no texts to find words in.
        ModelError
            Texts are given, the index was opened without a model, and its own cannot be loaded; or the reranker cannot.
        IndexingError
            The filter cannot be used.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if share is not None and (mode != "fast" or not 0 < share <= 1):
            raise ValueError(f"share is a number above 0 and at most 1, for mode='fast'; got {share!r}, mode={mode!r}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k, how many documents to find, must be a whole number of at least 1, got {k!r}")
        fraction = (searching.FRACTION if share is None else share) if mode == "fast" else None
        least = searching.LEAST if share is None else 0
        one = isinstance(queries, str)
        if not _is_array(queries):
            queries = [queries] if one else list(queries)  # once: it may be a generator
            texts = queries if texts is None else texts
        if rerank is not None and rerank is not False and texts is None:
            raise ValueError("rerank: a reranker reads texts; give the queries as texts, or texts=[...] beside codes")
        reranker = self.reranker(rerank, rerank_top, rerank_weight, rerank_budget) if texts is not None else None
        chosen = self.words(words) if texts is not None or words else None
        calibration = self.calibration(reranker, chosen, min_probability)
        asked = self._asked(texts, chosen)
        codes = self._codes(queries)
        if asked is not None and len(asked.queries) != len(codes):
            raise ValueError(f"texts: {len(asked.queries)} for {len(codes)} queries; expected one for each")
        if temperature is None:
            temperature = self.model.temperature if self.model is not None else 1.0
        # One snapshot for all of it: another thread may refresh meanwhile.
        depth = k if reranker is None else max(k, reranker.top)
        answers = self._documents(self.snapshot, codes, Wanted(depth, temperature, where, fraction, least, asked))
        if reranker is not None and texts is not None:
            pairs = zip(answers, texts, strict=True)
            answers = [reranked(answer, query, k, reranker, calibration) for answer, query in pairs]
        elif calibration is not None:
            answers = [with_probabilities(answer, calibration) for answer in answers]
        if min_probability is not None:
            answers = [at_least(answer, min_probability) for answer in answers]
        return answers[0] if one else answers

    def reranker(
        self,
        model: GivenReranker = None,
        top: int | None = None,
        weight: float | None = None,
        budget: float | None = None,
    ) -> Reranker | None:
        """Return a reranker, as `search` takes it; the last one is kept, with the scores it made."""
        tuned = self.tuning if model is None else None
        if model is False or (model is None and (tuned is None or tuned.rerank is None)):
            return None
        if isinstance(model, Reranker):
            return model.but(top, weight, budget)
        if self._reranker is None or self._reranker[0] != model:
            made = tuned.reranker() if tuned is not None else Reranker(model)  # type: ignore[arg-type]
            assert made is not None
            self._reranker = model, made
        return self._reranker[1].but(top, weight, budget)

    @property
    def tuning(self) -> Tuning | None:
        """What `polyencoders tune` has found for this model; read once. None where it was not tuned."""
        if self._tuning is None:
            found = Tuning.read(self._writer.storage)
            if found is not None:
                model = self.model.fingerprints.queries if self.model is not None else None
                if found.queries != (model or (self.maker.queries if self.maker is not None else "")):
                    logger.warning("%s was tuned for another model: tune it again", self.path)
                    found = None
            self._tuning = (found,)
        return self._tuning[0]

    def set_tuning(self, tuning: Tuning | None) -> None:
        """Keep how the index is searched unless it is said otherwise; None: by its vectors alone."""
        self._check_writable()
        if tuning is None:
            self._writer.storage.remove(TUNING)
        else:
            tuning.write(self._writer.storage)
        self._tuning = self._reranker = None

    def words(self, given: bool | float | Words | None) -> Words | None:
        """Return what words count in a search that asks for them so."""
        if given is None and self.tuning is not None:
            given = self.tuning.words
        return Words.of(given)

    def calibration(
        self, reranker: Reranker | None, words: Words | None = None, min_probability: float | None = None
    ) -> Calibration | None:
        """Return what makes probabilities of such a search; IndexingError where they are asked for and not known."""
        weight = words.weight if words is not None else None
        found = self.tuning.probabilities(weight, reranker) if self.tuning is not None else None
        if min_probability is not None and found is None:
            raise IndexingError(
                f"{self.path} knows no probabilities for such a search: `polyencoders tune {self.path} --data PAIRS` "
                "makes them, for searches as it chooses them"
            )
        return found

    def _codes(self, queries: Any) -> NDArray[np.float64]:
        dimension = self._writer.dimension
        if _is_array(queries):
            codes = as_array(queries).astype(np.float64)
        else:
            model = self.loaded_model()
            if not queries:
                return np.empty((0, 1, dimension))
            codes = model.encode_queries(queries).astype(np.float64)
        codes = codes[:, None] if codes.ndim == 2 else codes
        if codes.ndim != 3 or codes.shape[2] != dimension:
            raise ValueError(
                f"expected query codes (q, m, {dimension}) or vectors (q, {dimension}), got {tuple(codes.shape)}"
            )
        return codes

    def _asked(self, texts: Sequence[Query] | None, words: Words | None) -> Asked | None:
        if words is None:
            return None
        if texts is None:
            raise ValueError("words: codes have none; give the queries as texts, or texts=[...] beside their codes")
        return Asked(words.weight, words.asked(texts, self._writer.language))

    def _documents(self, snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Answer]:
        """The best documents of each query; of a document that is kept as passages, the best passage."""
        if not keeps_passages(snapshot.table.schema):
            return self._find(snapshot, codes, wanted)
        return find_documents(partial(self._find, snapshot), codes, wanted, snapshot.size)

    def _find(self, snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Answer]:
        if wanted.words is not None:
            totals = snapshot.totals(wanted.words.words)
            wanted = wanted._replace(words=wanted.words._replace(totals=totals))
        return [
            Answer(hits_of(one, snapshot.read), one.certified, one.bound, one.looked_at, snapshot.version)
            for one in searching.find(snapshot, codes, wanted)
        ]

    def _latest(self) -> Snapshot:
        return self._writer.with_latest(lambda table: self._look(table, self._snapshot))

    def _look(self, table: Table, before: Snapshot | None = None) -> Snapshot:
        return Snapshot(table, newest(table.storage, before.layout if before is not None else None))

    def _check_writable(self) -> None:
        if self._pinned is not None:
            raise IndexingError(f"{self.path} was opened at version {self._pinned}, which does not change")


def _is_array(queries: Any) -> bool:
    return isinstance(queries, np.ndarray) or hasattr(queries, "detach")


def _spread(rows: NDArray[Any], number: int) -> NDArray[Any]:
    """At most so many rows, at even distances."""
    return np.asarray(rows[np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(int)])
