"""An exported bi- or poly-encoder: the contract of `encoders/` on a graph."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.batches import batches
from polyencoders.encoders.protocols import Advance, Fingerprints, QueryReading, Token, Vectors, ignore
from polyencoders.encoders.queries import Query, check_document, join_turns, query_text
from polyencoders.encoders.ranking import VectorRanking
from polyencoders.encoders.reading import reading
from polyencoders.errors import ModelError
from polyencoders.runtime.graph import Graph, open_graph
from polyencoders.runtime.manifest import ENGINES, MANIFEST, TOKENIZER, Manifest
from polyencoders.runtime.tokens import Tokens
from polyencoders.runtime.ways import TOKENS_AT_ONCE, Ways

MANY = 1_000
"""Documents from which the fastest way is looked for (`ways.py`)."""


class ExportedEncoder(VectorRanking):
    """Encodes queries and documents on exported graphs. Several threads may use it at once.

    Parameters
    ----------
    folder
        An exported directory.
    manifest
        What it says of itself.
    """

    has_query_codes: bool
    bf16_is_native = False
    """An exported document side has one precision; it is part of its fingerprint."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.architecture = manifest.architecture
        self.dimension, self.temperature, self.cosine = manifest.dimension, manifest.temperature, manifest.cosine
        self.fingerprints: Fingerprints = manifest.made_by
        self.has_query_codes = manifest.codes
        self.turn_separator, self.prompts = manifest.turn_separator, manifest.prompts
        self.query_length, self.document_length = manifest.query_length, manifest.document_length
        self.tokens = Tokens(folder / TOKENIZER, manifest.padding)
        precisions = {file: manifest.precision[side] for side, file in manifest.graphs.items()}  # they may share one
        opened = {file: open_graph(folder / file, manifest.engine, how) for file, how in precisions.items()}
        self._graphs = {side: opened[file] for side, file in manifest.graphs.items()}
        self._ways: Ways | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle its files, so that another machine needs no folder."""
        files = {MANIFEST, *self.manifest.digests}
        return _unpickled, ({file: (self.folder / file).read_bytes() for file in sorted(files)},)

    def __repr__(self) -> str:
        return f"ExportedEncoder({self.architecture}, {self.engine})"

    def encode_queries(self, queries: Sequence[Query], advance: Advance = ignore) -> Vectors:
        """Encode queries to codes `(q, m, d)`; one code where a query is a single vector.

        Raises
        ------
        TypeError, ValueError
            A query is not one.
        """
        prompt = self.prompts.get("query") or ""
        texts = [prompt + self._text_of(query, prompt) for query in queries]
        found = self._encode("query", texts, self.query_length, advance)
        return found if len(texts) else np.empty((0, 1, self.dimension), dtype=np.float32)

    def encode_documents(self, texts: Sequence[str], bf16: bool | None = None, advance: Advance = ignore) -> Vectors:
        """Encode documents to vectors `(n, d)`.

        Raises
        ------
        TypeError
            A text is not one.
        ModelError
            `bf16` asks for what the model was not exported in.
        """
        if bf16 and self.manifest.precision["document"] != "bf16":
            precision = self.manifest.precision["document"]
            raise ModelError(f"this model was exported with documents in {precision}: bf16 cannot be chosen afterwards")
        prompt = self.prompts.get("document") or ""
        prompted = [prompt + check_document(text) for text in texts]
        found = self._encode("document", prompted, self.document_length, advance)
        return found if len(prompted) else np.empty((0, self.dimension), dtype=np.float32)

    def document_encoder(self, bf16: bool) -> Callable[[Sequence[str]], Vectors]:
        """Return a function that encodes documents."""
        return lambda texts: self.encode_documents(texts, bf16=bf16)

    @property
    def longest(self) -> int | None:
        """Tokens of a document that are read, special ones included."""
        return self.document_length or self.manifest.max_length

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, as many as are read."""
        return self.tokens.count(texts, self.manifest.max_length)

    def tokens_of(self, texts: Sequence[str]) -> list[list[Token]]:
        """Return all tokens of each text, without a prompt."""
        return self.tokens.of(texts)

    def read_query(self, query: Query) -> QueryReading:
        """Encode a query, and keep which of its words each code is made of.

        Raises
        ------
        TypeError, ValueError
            It is no query.
        ModelError
            A query is a single vector here, with no codes to read.
        """
        if not self.has_query_codes:
            raise ModelError(f"a {self.architecture} makes one vector of a query: there are no codes to read")
        prompt = self.prompts.get("query") or ""
        text = self._text_of(query, prompt)
        was_cut = len(text) < len(join_turns(query, self.turn_separator))
        (encoding,) = self.tokens.encode([prompt + text], self.query_length)
        codes, shares = self._graphs["query"].run(self._inputs([encoding.ids], "query"), ["query", "shares"])
        special = [id in self.tokens.special for id in encoding.ids]
        return reading(
            prompt + text,
            prompt,
            was_cut,
            encoding.tokens,
            encoding.offsets,
            encoding.word_ids,
            special,
            shares[0],
            codes[0],
        )

    @property
    def engine(self) -> str:
        """What computes it, and the precision of each side."""
        precision = ", ".join(f"{side} {name}" for side, name in self.manifest.precision.items())
        return f"{ENGINES[self.manifest.engine]}, {precision}"

    @property
    def trial(self) -> str:
        """Which way to encode many documents was the fastest in a trial; empty without a trial."""
        return self._ways.said if self._ways is not None else ""

    def _text_of(self, query: Query, prompt: str) -> str:
        return query_text(query, self.turn_separator, self.tokens, self.query_length, prompt or None)

    def _encode(self, side: str, texts: list[str], longest: int | None, advance: Advance) -> Any:
        encoded = [one.ids for one in self.tokens.encode(texts, longest)]
        lengths = [len(ids) for ids in encoded]

        def run(graph: Graph, places: list[int]) -> Vectors:
            return graph.run(self._inputs([encoded[place] for place in places], side), [side])[0]

        if side == "document" and len(texts) >= MANY:
            if self._ways is None:
                manifest, file = self.manifest, self.folder / self.manifest.graphs[side]
                self._ways = Ways(
                    self._graphs[side], partial(open_graph, file, manifest.engine, manifest.precision[side])
                )
            done = self._ways.encode(lengths, run)
        else:
            graph = self._graphs[side]
            done = ((places, run(graph, places)) for places in batches(lengths, TOKENS_AT_ONCE))
        vectors: NDArray[np.float32] | None = None
        for places, found in done:
            if vectors is None:
                vectors = np.empty((len(texts), *found.shape[1:]), dtype=np.float32)
            vectors[places] = found
            advance(len(places))
        return vectors

    def _inputs(self, rows: Sequence[Sequence[int]], side: str) -> dict[str, NDArray[Any]]:
        ids = self.tokens.padded(rows)
        lengths = np.array([len(row) for row in rows])
        inputs = {"input_ids": ids, "attention_mask": (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)}
        return {name: array for name, array in inputs.items() if name in self._graphs[side].inputs}


def _unpickled(files: dict[str, bytes]) -> ExportedEncoder:
    folder = Path(tempfile.mkdtemp(prefix="polyencoders-"))
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        model = ExportedEncoder(folder, Manifest.read(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # As long as the model: `Ways` opens the graph again, and the model may be sent on.
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model
