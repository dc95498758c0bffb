"""The settings of a server, and its limits with their units."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from polyencoders.encoders import Words
from polyencoders.errors import DataError

GRACE = 30  # Seconds that requests in progress have to finish when the server stops
KEEP_ALIVE = 75
"""Seconds that a connection is kept for another request: longer than proxies do, which could otherwise use one just as
it is closed."""


@dataclass(frozen=True)
class Limits:
    """The limits of requests."""

    body: int = 8_000_000  # Bytes of a body; 413 beyond
    bodies: int = 256_000_000  # Bytes of all bodies in progress; 429 beyond
    documents: int = 1_000  # Documents, or texts to embed, in a request
    text: int = 200_000
    """Characters of a text, or of all turns of a conversation. A model cuts what it cannot read."""
    names: int = 100
    """Names of metadata in the documents of a request. Each name becomes a column of the index, permanently."""
    turns: int = 200  # Turns of a conversation
    hits: int = 1_000  # Hits of a search
    requests: int = 256  # Requests in progress; 429 beyond
    wait: float = 120.0
    """Seconds in which whatever is admitted is done; 429 with `Retry-After` for what cannot be."""
    body_seconds: float = 10.0  # Seconds for a body to arrive; 408 beyond


@dataclass(frozen=True)
class Key:
    """A key, who has it, and limits of its own."""

    name: str
    secret: str = field(repr=False)
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What a server serves, where, and to whom."""

    model: str | None = None
    """A model directory, or a name on the hub. None: the model that made the index."""
    index: Path | str | None = None
    accept_documents_from: str | None = None
    """The model that made the index, if `model` is another with the same document side."""
    compare: tuple[str, ...] = ()  # More models, whose rankings the page shows for comparison
    words: bool | Words | None = None
    """What the words of queries count in a search. None: as the index was tuned."""
    rerank: str | Literal[False] | None = None
    """A cross-encoder that reads the best hits of each search. None: what the index was tuned with; False: none."""
    rerank_top: int | None = None
    rerank_weight: float | None = None
    rerank_budget: float | None = None
    """As for `Index.search`; a request may ask for a smaller top or budget."""
    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = field(default=None, repr=False)  # Required for every request except those for health
    keys: tuple[Key, ...] = ()  # More keys, with names and limits of their own
    origins: tuple[str, ...] = ()
    """Origins of pages that may ask from a browser, besides the server's own; `*`: any."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    strict: bool = False
    """Whether what could be mended or left unused is refused. A request may choose: `Prefer: handling=lenient`."""
    traces: bool = False  # Whether traces are sent by OpenTelemetry, as its environment variables say
    hosts: tuple[str, ...] = ()
    """Host names that requests may use, besides those of the loopback; `*`: any. A page of another site that points its
    own name at this machine is refused."""
    cache: Path | None = None  # A file that keeps document vectors across restarts
    cache_bytes: int = 512_000_000  # Bytes of document vectors in memory
    bf16: bool | None = None
    """Whether documents are encoded in bf16. None: if the machine multiplies it in hardware. A vector then depends
    slightly on its batch, within the rounding of bf16; it is computed once, and kept."""
    page: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        most = max(self.limits.bodies, self.limits.body)
        for key in self.keys:
            if (body := key.limits.get("body", 0)) > most:
                raise DataError(
                    f"the key of {key.name!r} may send a body of {body:,} bytes, and all bodies in progress together "
                    f"may have {most:,}: give it a `body` of at most that"
                )
