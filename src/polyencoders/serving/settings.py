"""What a server may be asked for, and how long it may take: every limit with its unit. Knows not how it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What a request may hold, and how many there may be."""

    body: int = 8_000_000
    """Bytes of a request's body; 413 beyond."""
    bodies: int = 256_000_000
    """Bytes of all bodies that are being answered; 429 beyond."""
    documents: int = 1_000
    """Documents, or texts to embed, of one request."""
    text: int = 200_000
    """Characters of a text, and of all turns of a conversation. A model reads the beginning of a document (the end of a
    conversation) and cuts the rest."""
    names: int = 100
    """Of metadata, in the documents of one request. Each name is a column of the index for good."""
    turns: int = 200
    """Of a conversation."""
    hits: int = 1_000
    """Of a search."""
    requests: int = 256
    """Requests in progress; 429 beyond."""
    wait: float = 10.0
    """Seconds of work that may wait for the model; 429 beyond, saying when to come back."""
    body_seconds: float = 10.0
    """Until a request has arrived whole; 408 beyond."""


@dataclass(frozen=True)
class Settings:
    """What is served, where, and to whom."""

    model: str | None = None
    """A model directory, or a name on the hub. None: the model that made the index."""
    index: Path | str | None = None
    accept_documents_from: str | None = None
    """The model that made the index, where `model` is another with the same document side."""
    compare: tuple[str, ...] = ()
    """More models, whose rankings the page shows beside."""
    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = field(default=None, repr=False)
    """Asked for with every request but those for health."""
    hosts: tuple[str, ...] = ()
    """Names by which browsers may reach it, besides the loopback's; `*`: any. A page of another site that points a name
    of its own at this machine is refused."""
    cache: Path | None = None
    """A file that keeps document vectors over restarts."""
    cache_bytes: int = 512_000_000
    """Of document vectors in memory."""
    bf16: bool | None = None
    """Whether documents are encoded in bf16. None: where the machine multiplies it in hardware. A vector then depends
    on the batch it was made in, by about as much as bf16 differs from float32; it is made once, and kept."""
    page: bool = True
    limits: Limits = field(default_factory=Limits)
