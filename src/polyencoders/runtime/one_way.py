"""An exported one-way cross-encoder: a query is read once, and its documents in sight of what was kept of it."""

from collections.abc import Callable

import numpy as np

from polyencoders.encoders.batches import batches
from polyencoders.encoders.protocols import Vectors
from polyencoders.encoders.queries import Query
from polyencoders.runtime.pairs import ExportedPairScorer, Inputs
from polyencoders.runtime.ways import TOKENS_AT_ONCE


class ExportedOneWayScorer(ExportedPairScorer):
    """Scores pairs on an exported graph, each distinct query read once. Several threads may use it at once.

    The graph reads texts in sight of a query: its vector, and its keys and values in every layer. Queries are read by
    the same graph, in sight of one word that is masked.
    """

    def score_distinct_pairs(self, pairs: list[tuple[Query, str]], advance: Callable[[int], object]) -> Vectors:
        """Score distinct pairs, `(n,)`."""
        queries, query_of, documents = self._ids_apart(pairs)
        of_query: list[list[int]] = [[] for _ in queries]
        for place, number in enumerate(query_of):
            of_query[number].append(place)
        scores = np.empty(len(pairs), dtype=np.float32)
        for ids, mine in zip(queries, of_query, strict=True):
            query = self._read_query(ids)
            for places in batches([len(documents[place]) for place in mine], TOKENS_AT_ONCE):
                rows = [mine[place] for place in places]
                texts = self._texts([documents[row] for row in rows])
                scores[rows] = self._graph.run({**texts, **query}, ["scores"])[0]
                advance(len(rows))
        return scores

    def _read_query(self, ids: list[int]) -> Inputs:
        """What documents read of a query, by the names of the graph's inputs."""
        layers, heads, width, dimension = self.manifest.settings["shape"]
        nothing = np.zeros((layers, heads, 1, width), dtype=np.float32)
        masked = {"query": np.zeros((1, dimension), dtype=np.float32), "query_mask": np.zeros((1, 1), dtype=np.int64)}
        texts = self._texts([ids])
        given = {**texts, **masked, "query_keys": nothing, "query_values": nothing}
        vector, keys, values = self._graph.run(given, ["vectors", "keys", "values"])
        return {
            "query": vector,
            "query_mask": texts["attention_mask"],
            "query_keys": keys[:, 0],
            "query_values": values[:, 0],
        }

    def _texts(self, rows: list[list[int]]) -> Inputs:
        return {
            "input_ids": self.tokens.padded(rows),
            "attention_mask": self.tokens.padded([[1] * len(row) for row in rows], 0),
        }
