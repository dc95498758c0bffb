"""The contract between text and vectors, and what needs nothing but it: ranking, caching, and the text of a query."""

from polyencoders.encoders.cached_ranking import CachedRanking
from polyencoders.encoders.document_cache import DocumentCache
from polyencoders.encoders.loading import load
from polyencoders.encoders.protocols import Encoder, Fingerprints, PairScorer, QueryReading, Vectors
from polyencoders.encoders.queries import Query
from polyencoders.encoders.ranking import distinct, hits
from polyencoders.encoders.reranking import Reranker
from polyencoders.encoders.words import Words

__all__ = [
    "CachedRanking",
    "DocumentCache",
    "Encoder",
    "Fingerprints",
    "PairScorer",
    "Query",
    "QueryReading",
    "Reranker",
    "Vectors",
    "Words",
    "distinct",
    "hits",
    "load",
]
