"""Documents in a Milvus collection, with their vectors in one of its fields; read with strong consistency."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.errors import MissingExtraError
from polyencoders.index.stores.protocol import ClientStore, Neighbours, StoredDocument, StoreError, checked_timeout

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MOST_NEIGHBOURS = 16_384  # Milvus returns no more for one vector
NEIGHBOURS_AT_ONCE = 1 << 20
"""Neighbours asked for in one request, over all its vectors: an answer must fit in one of Milvus' messages."""
DOCUMENTS_AT_ONCE = 1000
EXACT_INDEXES = ("FLAT", "BRUTE_FORCE")
MOST_CHARACTERS = 65_535  # Bytes of a text in a collection that `create` made: Milvus takes no more


class MilvusStore(ClientStore):
    """A collection of documents with a field of float vectors, to be searched with `search_store`.

    Parameters
    ----------
    client
        An open `MilvusClient`, which is left open; or the address of a server (or, with Milvus Lite, a file), which is
        opened here.
    collection
        Its name. It must be loaded, and the metric of its index the inner product (`IP`).
    vector_field, text_field
        A field of the type `FLOAT_VECTOR`, and the field that a hit shows.
    metadata_field
        A JSON field with an object that is a document's metadata. Without one, the metadata are all other fields.
    exact
        Whether a search sees every document. By default `FLAT` indexes are exact, any other may miss some.
    longest
        No vector has a larger norm; 1 if they are normalised. By default found out by reading them all.
    timeout
        Seconds that a request may take.

    Raises
    ------
    StoreError
        The server cannot be reached, there is no such collection or field, or its metric is another one.
    MissingExtraError
        pymilvus is not installed.

    Examples
    --------
    >>> from polyencoders.index.stores import MilvusStore, search_store
    >>> store = MilvusStore("http://localhost:19530", collection="answers")  # doctest: +SKIP
    >>> answer, *_ = search_store(store, query_codes, where="language == 'en'")  # doctest: +SKIP
    """

    def __init__(
        self,
        client: MilvusClient | str,
        collection: str = "documents",
        vector_field: str = "vector",
        text_field: str = "text",
        metadata_field: str | None = None,
        exact: bool | None = None,
        longest: float | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._name, self._vector, self._text, self._metadata = collection, vector_field, text_field, metadata_field
        self._timeout = checked_timeout(timeout)
        self._client, self._own = _connected(client, timeout)
        try:
            with self._explained("looking up"):
                self._id, self._id_is_a_number, self.dimension = self._inspect()
                index = self._index()
            self.exact = index in EXACT_INDEXES if exact is None else exact
            if self.exact and index not in EXACT_INDEXES:
                raise StoreError(f"collection {collection!r}: a search with the index {index} is not exact; FLAT is")
            self.longest = self._measure() if longest is None else float(longest)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls, client: MilvusClient | str, collection: str, dimension: int, index: str = "FLAT", **settings: Any
    ) -> MilvusStore:
        """Make a new, empty collection with the fields `id`, `text`, `vector` and `metadata`.

        Ids are texts of up to 512 bytes, texts have up to 65,535. `settings` are those of the class. Raises StoreError
        if the collection exists, or may not be created.
        """
        opened, own = _connected(client, settings.get("timeout", 60.0))
        from pymilvus import DataType

        try:
            with _explained(f"creating the collection {collection!r}"):
                if opened.has_collection(collection):
                    raise StoreError(f"there is a collection {collection!r} already")
                schema = opened.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=512)
                schema.add_field("text", DataType.VARCHAR, max_length=MOST_CHARACTERS)
                schema.add_field("vector", DataType.FLOAT_VECTOR, dim=int(dimension))
                schema.add_field("metadata", DataType.JSON)
                indexes = opened.prepare_index_params()
                indexes.add_index("vector", index_type=index, metric_type="IP")
                opened.create_collection(collection, schema=schema, index_params=indexes)
                opened.load_collection(collection)
            store = cls(opened, collection, metadata_field="metadata", **settings)
        except BaseException:
            if own:
                opened.close()
            raise
        store._own = own
        return store

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add documents to a collection that `create` made.

        Milvus has no transactions: if it fails midway, some are there. It does not refuse an id that it has: make sure
        that ids are unique. Each row has `id`, `text`, `vector`, and `metadata` if there is any: what JSON can hold.
        Raises StoreError for a vector of other dimensions or a text that is too long.
        """
        documents, longest = self._to_add(rows)
        batch = [{**one._asdict(), "vector": one.vector.tolist()} for one in documents]
        with self._explained("adding to"):
            self.longest = longest
            for start in range(0, len(batch), DOCUMENTS_AT_ONCE):
                self._client.insert(self._name, batch[start : start + DOCUMENTS_AT_ONCE], timeout=self._timeout)

    def search(self, vectors: NDArray[np.float32], k: int, where: str | None = None) -> list[Neighbours]:
        """See `DocumentStore`; `where` is a filter expression of Milvus', as in `language == "en" and year > 2000`.

        Raises ValueError for a k that is not 1 to 16,384, StoreError if the server cannot be reached, is too slow, or
        refuses the filter.
        """
        if not 1 <= k <= MOST_NEIGHBOURS:
            raise ValueError(f"Milvus finds 1 to {MOST_NEIGHBOURS:,} neighbours of a vector, asked for {k}")
        at_once = max(1, NEIGHBOURS_AT_ONCE // k)
        neighbours = []
        with self._explained("searching"):
            for start in range(0, len(vectors), at_once):
                found = self._client.search(
                    self._name,
                    data=vectors[start : start + at_once].tolist(),
                    filter=where or "",
                    limit=k,
                    anns_field=self._vector,
                    output_fields=[self._id],
                    search_params={"metric_type": "IP"},
                    timeout=self._timeout,
                    consistency_level="Strong",
                )
                for hits in found:
                    products = np.array([hit["distance"] for hit in hits], dtype=np.float64)
                    # Older clients call an id `id`, newer ones by the name of its field.
                    neighbours.append(Neighbours([str(hit.get(self._id, hit.get("id"))) for hit in hits], products))
        return neighbours

    def fetch(self, ids: Sequence[str]) -> list[StoredDocument]:
        """See `DocumentStore`. Raises StoreError if the server cannot be reached."""
        keys: list[Any] = [int(id) for id in ids] if self._id_is_a_number else list(ids)
        documents, own = [], (self._id, self._vector, self._text)
        with self._explained("reading"):
            # The client's own parameter, `ids`, does not quote the quotation marks in an id.
            for start in range(0, len(keys), DOCUMENTS_AT_ONCE):
                listed = json.dumps(keys[start : start + DOCUMENTS_AT_ONCE], ensure_ascii=False)
                for row in self._query(filter=f"{self._id} in {listed}", output_fields=["*", self._vector]):
                    if self._metadata is not None:
                        metadata = dict(row[self._metadata] or {})
                    else:
                        metadata = {name: value for name, value in row.items() if name not in own}
                    vector = np.asarray(row[self._vector], dtype=np.float32)
                    documents.append(StoredDocument(str(row[self._id]), vector, row[self._text] or "", metadata))
        return documents

    def __len__(self) -> int:
        with self._explained("counting"):
            return int(self._query(output_fields=["count(*)"])[0]["count(*)"])

    def _query(self, **what: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._client.query(
            self._name, timeout=self._timeout, consistency_level="Strong", **what
        )
        return rows

    def _inspect(self) -> tuple[str, bool, int]:
        """The primary field, whether it holds numbers, and the dimensions of the vectors."""
        from pymilvus import DataType

        if not self._client.has_collection(self._name, timeout=self._timeout):
            raise StoreError(f"there is no collection {self._name!r}")
        description = self._client.describe_collection(self._name, timeout=self._timeout)
        fields = {field["name"]: field for field in description["fields"]}
        for name in (self._vector, self._text, *([] if self._metadata is None else [self._metadata])):
            if name not in fields:
                raise StoreError(f"collection {self._name!r}: no field {name!r} among {', '.join(fields)}")
        type = fields[self._vector]["type"]
        if type != DataType.FLOAT_VECTOR:
            raise StoreError(
                f"collection {self._name!r}: the field {self._vector!r} must be a FLOAT_VECTOR, and is "
                f"{getattr(type, 'name', type)}"
            )
        primary = next(field for field in fields.values() if field.get("is_primary"))
        return primary["name"], primary["type"] == DataType.INT64, int(fields[self._vector]["params"]["dim"])

    def _index(self) -> str:
        """The type of the vectors' index, whose metric must be the inner product."""
        names = self._client.list_indexes(self._name, field_name=self._vector)
        if not names:
            raise StoreError(
                f"collection {self._name!r}: the field {self._vector!r} has no index; FLAT with the metric IP is exact"
            )
        index = self._client.describe_index(self._name, names[0], timeout=self._timeout)
        metric = str(index["metric_type"]).upper()
        if metric == "IP":
            return str(index["index_type"]).upper()
        why = (
            "; it leaves out how long a vector is, which is part of the score. If the vectors have length 1, an index "
            "with IP finds the same"
            if metric == "COSINE"
            else ""
        )
        raise StoreError(
            f"collection {self._name!r}: the index of {self._vector!r} has the metric {metric}, a poly-encoder needs "
            f"the inner product, IP{why}"
        )

    def _measure(self) -> float:
        longest = 0.0
        with self._explained("reading the vectors of"):
            vectors = self._client.query_iterator(
                self._name,
                batch_size=DOCUMENTS_AT_ONCE,
                output_fields=[self._vector],
                timeout=self._timeout,
                consistency_level="Strong",
            )
            while rows := vectors.next():
                block = np.array([row[self._vector] for row in rows], dtype=np.float64)
                longest = max(longest, float(np.linalg.norm(block, axis=1).max()))
            vectors.close()
        return longest

    def _explained(self, doing: str) -> Any:
        return _explained(f"{doing} the collection {self._name!r}")


def _connected(client: MilvusClient | str, timeout: float) -> tuple[MilvusClient, bool]:
    """An open client, and whether it was opened here."""
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise MissingExtraError("pymilvus", "milvus") from error
    if not isinstance(client, str):
        return client, False
    with _explained("connecting"):
        return MilvusClient(client, timeout=timeout), True


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn an error of Milvus or of the connection into a line that says what was being done."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        said = error.message if isinstance(error, MilvusException) else str(error)
        raise StoreError(f"Milvus, {doing}: {' '.join(str(said).split())}") from error
