"""How long a query takes, split into encoding it and scoring documents. Models take turns; times are medians."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polyencoders.data import Query

MOST_PAIRS = 1_000
"""Pairs that a cross-encoder reads in a measurement. Times for more documents are extrapolated, and marked."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a query against a number of documents."""

    encoding: float  # Encoding the query; 0 for a cross-encoder
    scoring: float  # Scoring all documents and choosing the ten best
    extrapolated: bool = False  # Whether `scoring` was measured on `MOST_PAIRS` documents and multiplied


def measure_latency(
    models: Mapping[str, Any],
    queries: Sequence[Query],
    documents: Sequence[str],
    sizes: Sequence[int],
    rounds: int = 9,
    done: Callable[[int], None] = lambda number: None,
) -> dict[str, dict[int, Latency]]:
    """Time every model against every number of documents, in turn. Returns times by model and number of documents.

    Document vectors of bi- and poly-encoders are made beforehand, as in an index: 1,000 of them, repeated, since the
    time does not depend on what is in them. Cross-encoders are timed in one round, as seconds need no median.
    """
    texts = [documents[i % len(documents)] for i in range(min(MOST_PAIRS, max(sizes)))]
    copies = -(-max(sizes) // len(texts))
    vectors = {
        name: model.encode_document(texts, convert_to_tensor=True, batch_size=64).repeat(copies, 1)
        for name, model in models.items()
        if hasattr(model, "encode_document")
    }

    def best(model: Any, encoded: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return torch.topk(model.similarity(encoded, vectors)[0], min(10, len(vectors))).indices

    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    """Milliseconds of scoring a number of documents; of encoding, for the number 0."""
    for number in range(rounds + 1):
        query = queries[number % len(queries)]
        for name, model in models.items():
            if name in vectors:
                milliseconds, encoded = _timed(model.encode_query, [query], convert_to_tensor=True)
                times[name, 0].append(milliseconds)
                for size in sizes:
                    times[name, size].append(_timed(best, model, encoded, vectors[name][:size])[0])
            elif number == 0:
                for size in {min(size, MOST_PAIRS) for size in sizes}:
                    times[name, size].append(_timed(model.rank, query, texts[:size], top_k=10)[0])
            done(1)

    def latency(name: str, size: int) -> Latency:
        if name in vectors:  # the first round warms up
            return Latency(statistics.median(times[name, 0][1:]), statistics.median(times[name, size][1:]))
        measured = min(size, MOST_PAIRS)
        return Latency(0.0, times[name, measured][0] * size / measured, extrapolated=size > measured)

    return {name: {size: latency(name, size) for size in sizes} for name in models}


def _timed(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> tuple[float, Any]:
    """Milliseconds of a call, and its value."""
    started = time.perf_counter()
    value = call(*arguments, **keywords)
    if isinstance(value, torch.Tensor) and value.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) * 1000, value
