"""Search over vectors that another store holds: PostgreSQL with pgvector, Milvus, or any other `DocumentStore`.

A store finds the nearest vectors to one vector; a poly-encoder's query has m. `search_store` asks for the neighbours of
each of them, scores all that are found, and says whether anything else could be better.
"""

from polyencoders.index.stores.milvus import MilvusStore
from polyencoders.index.stores.pgvector import PgVectorStore
from polyencoders.index.stores.protocol import DocumentStore, Neighbours, StoredDocument, StoreError
from polyencoders.index.stores.search import StoreAnswer, StoreHit, search_store

__all__ = [
    "search_store",
    "StoreAnswer",
    "StoreHit",
    "DocumentStore",
    "Neighbours",
    "StoredDocument",
    "StoreError",
    "PgVectorStore",
    "MilvusStore",
]
