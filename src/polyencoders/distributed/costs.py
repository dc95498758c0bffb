"""What an index costs on many machines: bytes, seconds and money, from a few measured rates.

Arithmetic on numbers; nothing of Ray, models or indexes. docs/scaling.md sets it beside measurements, and says where
it is off.

    t_query = t_encode + rounds (t_fan_out + shards t_shard) + t_search + n_shard b / rate

`n_shard b` are the bytes of the 8-bit copy that an exact search of the largest shard reads, one a dimension and
document: it is bound by reading them for few codes, and by multiplying for many. A fast search asks twice: first which
tiles look promising, so that those are searched that one machine would search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HOURS_A_MONTH = 730
TILE, BYTES_A_TILE = 32, 4
"""Documents of a tile, and what a shard says of each that a fast search may look at."""
RESERVE = 1.25
"""Of a machine's memory: for the process, what changed since the layout, and a filter's bits."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one machine does, as measured on it, and what it costs. The defaults: two cores (docs/scaling.md).

    Parameters
    ----------
    memory
        Bytes.
    scan_rate
        Bytes of the 8-bit copy that an exact search goes through in a second, with all its cores and few codes.
    product_rate
        8-bit products a second: what bounds a search with many codes.
    encode_rate
        Documents it encodes in a second.
    network_rate
        Bytes a second between machines.
    price
        Of an hour, in dollars.
    """

    memory: float = 64e9
    scan_rate: float = 17.7e9
    product_rate: float = 400e9
    encode_rate: float = 330.0
    network_rate: float = 1.25e9
    price: float = 0.40

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 or not math.isfinite(value):
                raise ValueError(f"{name} must be a number above 0, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Overheads:
    """What a query costs beside the scan.

    Parameters
    ----------
    encode
        Seconds to encode it.
    fan_out, per_shard
        Seconds of a round of questions, and more for each shard: messages, and merging, by one process.
    search
        Seconds of a shard's search, however few documents it has.
    request_bytes, hit_bytes
        Of a question to a shard and its answer beside the codes; of a hit in it.
    """

    encode: float = 0.012
    fan_out: float = 0.0024
    per_shard: float = 0.0012
    search: float = 0.0012
    request_bytes: float = 2_500
    hit_bytes: float = 180


@dataclass(frozen=True)
class Costs:
    """What it comes to.

    Attributes
    ----------
    documents_per_shard
        Of the largest.
    memory_per_shard, disk
        Bytes of the 8-bit copy, and of the whole index in storage (vectors twice: in the table and in the layout).
    machines
        One for each shard and replica.
    fits
        Whether a shard's copy fits a machine's memory.
    scan, overhead, seconds
        Of one query alone: of the slowest shard, of the rest, and together.
    network
        Bytes of one query, to and from all shards.
    queries_per_second
        With every replica busy; a shard answers one query at a time with all its cores.
    encoding
        Seconds to encode all documents on these machines, once.
    dollars_to_encode, dollars_a_month
        For that, and for the machines that hold the shards.
    dollars_a_million_queries
        At that rate of queries, day and night.
    """

    documents_per_shard: int
    memory_per_shard: float
    disk: float
    machines: int
    fits: bool
    scan: float
    overhead: float
    seconds: float
    network: float
    queries_per_second: float
    encoding: float
    dollars_to_encode: float
    dollars_a_month: float
    dollars_a_million_queries: float


def estimate(
    documents: float,
    *,
    shards: int | None = None,
    replicas: int = 1,
    dimension: int = 384,
    codes: int = 4,
    k: int = 10,
    share: float = 1.0,
    text_bytes: float = 300,
    machine: Machine | None = None,
    overheads: Overheads | None = None,
) -> Costs:
    """Estimate an index on one machine a shard.

    Parameters
    ----------
    documents
        n.
    shards
        Into which it is cut; by default as few as hold it in memory.
    replicas
        Machines with the same share.
    dimension, codes, k
        d, m, and how many hits are asked for.
    share
        Of the documents that a search goes through: 1 for an exact search, 0.07 for a fast one.
    text_bytes
        Of a document's text, id and metadata.
    machine, overheads
        Measured rates.

    Raises
    ------
    ValueError
        A number below what makes sense.

    Examples
    --------
    A hundred million documents, exactly, on four machines:

    >>> found = estimate(1e8, shards=4)
    >>> found.fits, found.documents_per_shard, round(found.memory_per_shard / 1e9, 1)
    (True, 25000000, 9.9)
    >>> 0.5 < found.seconds < 0.6
    True
    >>> estimate(1e8, shards=8).scan < found.scan
    True
    """
    machine, overheads = machine or Machine(), overheads or Overheads()
    for name, number in (("documents", documents), ("dimension", dimension), ("codes", codes), ("k", k)):
        if not number >= 1:
            raise ValueError(f"{name} must be at least 1, got {number!r}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
    bytes_each = per_document(dimension)
    documents = math.ceil(documents)
    room = int(machine.memory / (RESERVE * bytes_each))
    if shards is None:
        shards = -(-documents // max(1, room))
    if shards < 1 or replicas < 1:
        raise ValueError(f"shards and replicas must be at least 1, got {shards!r} and {replicas!r}")
    largest = -(-documents // shards)
    memory = largest * bytes_each
    looked_at = share * largest * dimension
    rounds, told = 1, 0.0
    if share < 1:
        rounds = 2
        looked_at += largest * dimension / TILE  # the centres of all tiles
        told = BYTES_A_TILE * min(largest, share * documents) / TILE
    scan = overheads.search + max(looked_at / machine.scan_rate, looked_at * codes / machine.product_rate)
    network = shards * (rounds * (overheads.request_bytes + 4 * codes * dimension) + k * overheads.hit_bytes + told)
    fan_out = rounds * (overheads.fan_out + overheads.per_shard * shards)
    overhead = overheads.encode + fan_out + network / machine.network_rate
    machines = shards * replicas
    rate = replicas / scan
    encoding = documents / (machines * machine.encode_rate)
    month = machines * machine.price * HOURS_A_MONTH
    return Costs(
        documents_per_shard=largest,
        memory_per_shard=memory,
        disk=documents * (2 * 4 * dimension + bytes_each + 2 * text_bytes),
        machines=machines,
        fits=largest <= room,
        scan=scan,
        overhead=overhead,
        seconds=scan + overhead,
        network=network,
        queries_per_second=rate,
        encoding=encoding,
        dollars_to_encode=encoding / 3600 * machines * machine.price,
        dollars_a_month=month,
        dollars_a_million_queries=1e6 / rate / 3600 * machines * machine.price,
    )


def per_document(dimension: int) -> float:
    """Bytes in memory of a document: the 8-bit copy, with its scale and bounds. Vectors, ids and texts are mapped."""
    return dimension + 12.0
