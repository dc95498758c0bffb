"""An exported model that reads query and document together: a cross-encoder, a warm one, or ARC-II."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.batches import batches
from polyencoders.encoders.protocols import Token, Vectors
from polyencoders.encoders.queries import DOCUMENT, PADDING, QUERY, Query, fit_pair, join_turns, query_text
from polyencoders.encoders.ranking import PairRanking, distinct
from polyencoders.runtime.graph import open_graph
from polyencoders.runtime.manifest import TOKENIZER, Manifest
from polyencoders.runtime.tokens import Tokens
from polyencoders.runtime.ways import TOKENS_AT_ONCE

Inputs = dict[str, NDArray[Any]]


class ExportedPairScorer(PairRanking):
    """Scores pairs on an exported graph. Several threads may use it at once.

    Parameters
    ----------
    folder
        An exported directory.
    manifest
        What it says of itself.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self.architecture, self.cosine = manifest.architecture, manifest.cosine
        self.tokens = Tokens(folder / TOKENIZER, manifest.padding)
        self._graph = open_graph(folder / manifest.graphs["pair"], manifest.engine, manifest.precision["pair"])
        self._read: Callable[[list[tuple[Query, str]]], tuple[list[int], Callable[[list[int]], Inputs]]] = {
            "WarmCrossEncoder": self._apart,
            "ArcII": self._fixed,
        }.get(manifest.architecture, self._together)

    def __repr__(self) -> str:
        return f"ExportedPairScorer({self.architecture}, {self.manifest.engine}, {self.manifest.precision['pair']})"

    @property
    def fingerprint(self) -> str:
        """Name of the graph and its settings."""
        return hashlib.blake2b(repr(self.manifest).encode(), digest_size=16).hexdigest()

    def score_distinct_pairs(self, pairs: list[tuple[Query, str]], advance: Callable[[int], object]) -> Vectors:
        """Score distinct pairs, `(n,)`."""
        lengths, inputs = self._read(pairs)
        scores = np.empty(len(pairs), dtype=np.float32)
        for places in batches(lengths, TOKENS_AT_ONCE):
            given = {name: array for name, array in inputs(places).items() if name in self._graph.inputs}
            scores[places] = self._graph.run(given, ["scores"])[0]
            advance(len(places))
        return scores

    @property
    def longest(self) -> int | None:
        """Tokens of a document that are read, special ones included."""
        return self.manifest.document_length or self.manifest.max_length

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, as many as are read."""
        return self.tokens.count(texts, self.manifest.max_length)

    def tokens_of(self, texts: Sequence[str]) -> list[list[Token]]:
        """Return all tokens of each text, without a prompt."""
        return self.tokens.of(texts)

    def _together(self, pairs: list[tuple[Query, str]]) -> tuple[list[int], Callable[[list[int]], Inputs]]:
        """One sequence for a pair, as the tokeniser joins them."""
        longest, separator = self.manifest.query_length, self.manifest.turn_separator
        prompt = self.manifest.prompts.get("query") or ""
        texts = [fit_pair(self.tokens, join_turns(query, separator), text, longest, prompt) for query, text in pairs]
        encoded = self.tokens.encode([(prompt + query, text) for query, text in texts], longest)

        def inputs(places: list[int]) -> Inputs:
            some = [encoded[place] for place in places]
            lengths = np.array([len(one) for one in some])
            ids = self.tokens.padded([one.ids for one in some])
            return {
                "input_ids": ids,
                "attention_mask": (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64),
                "token_type_ids": self.tokens.padded([one.type_ids for one in some], 0),
            }

        return [len(one) for one in encoded], inputs

    def _apart(self, pairs: list[tuple[Query, str]]) -> tuple[list[int], Callable[[list[int]], Inputs]]:
        """Each text with the special tokens and positions it has alone, in one sequence."""
        first = int(self.manifest.settings["first_position"])
        asked, of_pair, given = self._ids_apart(pairs)
        both = [(asked[place], ids) for place, ids in zip(of_pair, given, strict=True)]

        def inputs(places: list[int]) -> Inputs:
            some = [both[place] for place in places]
            positions = [[first + i for ids in pair for i in range(len(ids))] for pair in some]
            sides = [[QUERY] * len(query) + [DOCUMENT] * len(document) for query, document in some]
            return {
                "input_ids": self.tokens.padded([[*query, *document] for query, document in some]),
                "position_ids": self.tokens.padded(positions, first),
                "sides": self.tokens.padded(sides, PADDING),
            }

        return [len(query) + len(document) for query, document in both], inputs

    def _ids_apart(self, pairs: list[tuple[Query, str]]) -> tuple[list[list[int]], list[int], list[list[int]]]:
        """The tokens of each distinct query, each pair's place in that list, and the tokens of its document."""
        settings = self.manifest
        prompt = settings.prompts.get("query") or ""
        queries, of_pair = distinct([query for query, _ in pairs])
        texts = [
            prompt + query_text(query, settings.turn_separator, self.tokens, settings.query_length, prompt or None)
            for query in queries
        ]
        asked = [one.ids for one in self.tokens.encode(texts, settings.query_length)]
        given = [one.ids for one in self.tokens.encode([text for _, text in pairs], settings.document_length)]
        return asked, of_pair, given

    def _fixed(self, pairs: list[tuple[Query, str]]) -> tuple[list[int], Callable[[list[int]], Inputs]]:
        """Fixed lengths, without special tokens: the newest of a query, the first of a document."""
        settings = self.manifest
        lengths = {"query": settings.query_length or 0, "document": settings.document_length or 0}
        prompt = settings.prompts.get("query") or ""
        queries = [prompt + join_turns(query, settings.turn_separator) for query, _ in pairs]

        def read(texts: list[str]) -> list[list[int]]:
            return [self.tokens(text, add_special_tokens=False)["input_ids"] for text in texts]

        ids = {
            "query": [row[-lengths["query"] :] for row in read(queries)],
            "document": [row[: lengths["document"]] for row in read([text for _, text in pairs])],
        }

        def inputs(places: list[int]) -> Inputs:
            made: Inputs = {}
            for side, rows in ids.items():
                made[f"{side}_ids"] = np.zeros((len(places), lengths[side]), dtype=np.int64)
                made[f"{side}_mask"] = np.zeros((len(places), lengths[side]), dtype=np.float32)
                for row, place in enumerate(places):
                    made[f"{side}_ids"][row, : len(rows[place])] = rows[place]
                    made[f"{side}_mask"][row, : len(rows[place])] = 1
            return made

        return [sum(lengths.values())] * len(pairs), inputs
