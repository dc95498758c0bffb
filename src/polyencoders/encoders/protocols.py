"""The contract between text and vectors: what an index, a server or an evaluation may ask of a model.

An `Encoder` encodes queries and documents apart; a `PairScorer` reads a query and a document together. PyTorch models
and exported graphs both keep this contract.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from polyencoders.encoders.queries import Query

Vectors = NDArray[np.float32]
Advance = Callable[[int], object]  # Called with a number of texts whenever so many more are done


def ignore(done: int) -> None:
    """Report progress to nobody."""


class Fingerprints(NamedTuple):
    """Names of what makes vectors: the same weights and settings give the same, others another."""

    documents: str  # What makes document vectors: weights, lengths, the prompt
    queries: str  # What makes query codes and scores them


class Word(NamedTuple):
    """A word as the tokeniser sees it, or one of its special tokens."""

    text: str
    start: int  # Where it begins in the text that was read; 0, as `end`, for special tokens that the tokeniser adds
    end: int
    special: bool  # Whether it is a token such as `[CLS]`, which stands for no word


class Token(NamedTuple):
    """A token of a text, as a model's tokeniser makes it."""

    id: int
    text: str  # What it stands for; its name, if it is special
    start: int  # Where it begins in the text; 0, as `end`, for special tokens that the tokeniser adds
    end: int
    special: bool  # Whether it is a token such as `[CLS]`, which stands for no word


class QueryReading(NamedTuple):
    """A query as a model reads it, and which words each of its codes is made of."""

    text: str  # What was tokenised: the prompt, if there is one, and the turns, joined, without what did not fit
    prompt: str
    was_cut: bool  # Whether the oldest part did not fit
    words: list[Word]
    shares: Vectors
    """`(m, words)`: the share of each word in each code. A row sums to 1, or to 0 where the code is absent."""
    codes: Vectors  # `(m, d)`: the query codes


class Scorer(Protocol):
    """What every model can do: score lists of documents, and count tokens."""

    @property
    def architecture(self) -> str:
        """Name of the architecture, such as `PolyEncoder`."""

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines, between -1 and 1."""

    def score_lists(
        self,
        queries: Sequence[Query],
        documents: Sequence[Sequence[str]],
        batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> list[Vectors]:
        """Scores of each query with the documents of its own list: `q` arrays, as long as the lists."""

    @property
    def longest(self) -> int | None:
        """Tokens of a document that are read, special ones included; the rest is cut off. None: all."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, as many as are read. Any thread may call it."""

    def tokens_of(self, texts: Sequence[str]) -> list[list[Token]]:
        """All tokens of each text, special ones included, without a prompt. Any thread may call it."""


class Encoder(Scorer, Protocol):
    """A model with two sides that meet in the score `sum_i softmax_i(y_i . c / temperature) (y_i . c)`."""

    @property
    def dimension(self) -> int:
        """d, of document vectors and of query codes."""

    @property
    def temperature(self) -> float:
        """The temperature of the softmax over the query codes. It changes nothing where a query is a single vector."""

    @property
    def fingerprints(self) -> Fingerprints:
        """Names of what makes the vectors of both sides, for caches and indexes."""

    @property
    def bf16_is_native(self) -> bool:
        """Whether documents are computed in bf16 by default: the machine multiplies it in hardware."""

    @property
    def engine(self) -> str:
        """What computes it, and in which precision where there is a choice, for people to read."""

    @property
    def trial(self) -> str:
        """Which way to encode many documents was the fastest in a trial, for people to read; empty without a trial."""

    def encode_queries(self, queries: Sequence[Query], advance: Advance = ignore) -> Vectors:
        """Query codes `(q, m, d)`; one code where a query is a single vector. A code of zeros is absent."""

    def encode_documents(self, texts: Sequence[str], bf16: bool | None = None, advance: Advance = ignore) -> Vectors:
        """Document vectors `(n, d)`, in the order of the texts."""

    def document_encoder(self, bf16: bool) -> Callable[[Sequence[str]], Vectors]:
        """Return a function that encodes documents, made ready once for many calls."""


class QueryReader(Encoder, Protocol):
    """An encoder that can say which words its codes are made of."""

    @property
    def has_query_codes(self) -> bool:
        """Whether its queries are made of codes that attend over their words."""

    def read_query(self, query: Query) -> QueryReading:
        """Encode a query, and keep which of its words each code is made of."""


class PairScorer(Scorer, Protocol):
    """A model that reads a query and a document together. Nothing of a pair can be computed before it is seen."""

    @property
    def fingerprint(self) -> str:
        """The name of what scores pairs: the same weights and settings give the same, others another."""

    def score_pairs(self, pairs: Sequence[tuple[Query, str]], batch_size: int = 32) -> Vectors:
        """Scores of pairs, `(n,)`; equal pairs get equal scores."""


def is_encoder(model: object) -> TypeGuard[Encoder]:
    """Tell whether a model encodes queries and documents apart. Looks at its class, so it computes nothing."""
    return hasattr(type(model), "encode_documents")


def is_pair_scorer(model: object) -> TypeGuard[PairScorer]:
    """Tell whether a model reads a query and a document together."""
    return hasattr(type(model), "score_pairs")


def reads_queries(model: object) -> TypeGuard[QueryReader]:
    """Tell whether a model can say which words its query codes are made of."""
    return bool(getattr(model, "has_query_codes", False))
