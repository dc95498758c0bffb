"""Searching vectors where they already are: in PostgreSQL with pgvector, in Milvus, or in any other store of vectors.

    >>> from polyencoders.index.stores import MilvusStore, PgVectorStore, search_store

A store finds the nearest vectors to one vector; a poly-encoder's query has m. `search_store` asks for the neighbours of
each of them, scores what they name, and says whether anything else could have been better.
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
