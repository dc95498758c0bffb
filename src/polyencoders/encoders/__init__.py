"""The contract between text and vectors, and what needs nothing but it: ranking, caching, and the text of a query."""

from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.encoders.document_cache import DocumentCache
from polyencoders.encoders.loading import load
from polyencoders.encoders.locks import lock_of
from polyencoders.encoders.protocols import (
    Encoder,
    Fingerprints,
    PairScorer,
    QueryReader,
    QueryReading,
    Scorer,
    Vectors,
    Word,
)
from polyencoders.encoders.queries import Query, check_document, check_query, join_turns
from polyencoders.encoders.ranking import Hit, VectorRanking, distinct, hits
from polyencoders.encoders.reranking import Reranker

__all__ = [
    "CachedRanking",
    "DocumentCache",
    "Encoder",
    "Fingerprints",
    "Hit",
    "PairScorer",
    "Query",
    "QueryReader",
    "QueryReading",
    "Reranker",
    "Scorer",
    "VectorRanking",
    "Vectors",
    "Word",
    "check_document",
    "check_query",
    "distinct",
    "hits",
    "join_turns",
    "load",
    "lock_of",
]
