"""Search over shards on Ray beside one machine: the same answers, the parts of the time, and a shard killed.

    python benchmarks/scale_out_search.py            # some minutes, once the vectors are made
    python benchmarks/scale_out_search.py --quick    # under a minute; few documents, shows that it runs

The cluster is this machine alone. `identical`: all queries over four shards and on one machine, exact and fast; hits,
scores, certificates, bounds and the number of documents looked at must be equal to the last bit. `one machine`,
`shards`: one query at a time, medians in milliseconds. Shards share this machine's processors, so the time of a shard
that scans alone is measured, too. `loss`: two clients search while the process of a shard is killed. Queries wait for
it (`waits`), are refused after half a second (`refuses`), are answered without it after half a second (`partial`), or
go to its replica (`replicas`).

Writes benchmarks/results/scale_out_search.{json,md} and the tables of docs/scaling.md; the last line printed is the
summary as one JSON object. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from report import CACHE, Report, parser, put, table

# isort: split
import itertools
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.cloudpickle import dumps
from ray.cluster_utils import Cluster

from polyencoders.data import chitchat_replies
from polyencoders.distributed import PartialAnswer, ShardedIndex, connect
from polyencoders.distributed.shard import Shard
from polyencoders.errors import ClusterError
from polyencoders.index import Answer, Index
from polyencoders.scoring.selection import TILE
from trained_vectors import TEMPERATURE, TrainedVectors

K, CODES, SHARDS = 10, 4, (1, 2, 4)
MODES = ("exact", "fast")
KILLED = {
    "waits": "questions wait",
    "refuses": "they are refused after 0.5 s",
    "partial": "they are answered in part after 0.5 s",
    "replicas": "it has a replica",
}
HOW = {"waits": (60.0, False), "refuses": (0.5, False), "partial": (0.5, True)}
"""Seconds to wait for a lost shard, and whether an answer may then leave its documents out, by name."""
HERE = "127.0.0.2"
"""Not 127.0.0.1: Ray would replace it by the address that other machines use, and be open to them."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    vectors: TrainedVectors
    documents: int = 200_000
    timed: int = 200
    """The number of queries that are timed one at a time."""
    calm: float = 5.0
    """Seconds before and after a shard is killed."""


def measure(quick: bool, work: Path) -> dict[str, Any]:
    """All figures, with vectors and indexes in a folder. `quick`: of few documents, within 40 seconds."""
    plan = planned(quick, work)
    path = made(plan, work)
    codes = plan.vectors.codes(384, CODES)
    index = Index.open(path)
    result: dict[str, Any] = {
        "corpus": {
            "documents": len(index),
            "dimension": codes.shape[2],
            "codes": CODES,
            "queries": len(codes),
            "k": K,
            "characters of a text": statistics.mean(len(one["text"]) for one in index.sample(1_000)),
        },
        "one machine": {str(threads): _alone(index, codes[: plan.timed], threads) for threads in (1, 2)},
    }
    torch.set_num_threads(1)
    with _cluster(max(SHARDS) + 1) as address:
        result["shards"] = {}
        for number in SHARDS if not quick else (SHARDS[0], SHARDS[-1]):
            with _spread(address, path, shards=number) as spread:
                result["shards"][str(number)] = _spread_out(spread, index, codes[: plan.timed])
                if number == max(SHARDS):
                    result["identical"] = _compared(spread, index, codes)
                    result["loss"] = {}
                    for name, (spread.shards.patience, spread.partial) in HOW.items():
                        if quick and name != "partial":
                            continue
                        result["loss"][name] = _killed(spread, index, codes[: plan.timed], plan.calm)
        if not quick:
            with _spread(address, path, shards=2, replicas=2) as spread:
                result["loss"]["replicas"] = _killed(spread, index, codes[: plan.timed], plan.calm)
    return result


def planned(quick: bool, work: Path) -> Plan:
    """The plan, with vectors that are kept in a folder."""
    few = TrainedVectors(work / "vectors", documents=500, examples=64, queries=40, steps=20)
    some = TrainedVectors(work / "vectors", documents=20_000, examples=2_000, queries=1_000, steps=300)
    return Plan(few, 30_000, 15, 0.5) if quick else Plan(some)


def made(plan: Plan, work: Path) -> Path:
    """The index: replies of the built-in conversations, with vectors as near to one another as theirs."""
    path = work / f"scale-out-{plan.documents}"
    if not path.exists():
        replies = itertools.cycle(chitchat_replies())
        texts = ({"id": str(number), "text": next(replies)["text"]} for number in range(plan.documents))
        Index.from_vectors(path, plan.vectors.extended(384, plan.documents), texts)
    return path


@contextmanager
def _cluster(processors: int) -> Iterator[str]:
    """The address of a cluster of this machine, which counts as so many processors."""
    warnings.filterwarnings("ignore", message="lancedb fork support")  # the forked processes exec at once
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        (Path(folder) / "ray").mkdir()
        os.environ |= {"RAY_TMPDIR": folder, "RAY_enable_worker_prestart": "0", "RAY_worker_niceness": "0"}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        nodes = Cluster()
        try:
            nodes.add_node(
                num_cpus=processors,
                num_gpus=0,
                object_store_memory=200_000_000,
                include_dashboard=False,
                include_log_monitor=False,
                temp_dir=folder,
                node_ip_address=HERE,
            )
            connect(nodes.address)
            yield nodes.address
        finally:
            ray.shutdown()
            nodes.shutdown()
            os.environ.clear()
            os.environ |= before


@contextmanager
def _spread(address: str, path: Path, **how: Any) -> Iterator[ShardedIndex]:
    spread = ShardedIndex.on(address, path, threads=1, **how)
    try:
        len(spread)  # every shard has read its slice
        yield spread
    finally:
        spread.close()


def _compared(spread: ShardedIndex, index: Index, codes: np.ndarray) -> dict[str, Any]:
    """The number of answers that differ from one machine's, by what differs."""
    found: dict[str, Any] = {"shards": len(spread.shards), "queries": len(codes)}
    for name, how in {"exact": {}, "fast": {"mode": "fast"}, "fast, 1%": {"mode": "fast", "share": 0.01}}.items():
        ours = spread.search(codes, K, temperature=TEMPERATURE, **how)
        theirs = index.search(codes, K, temperature=TEMPERATURE, **how)
        pairs = list(zip(ours, theirs, strict=True))
        found[name] = {
            "certified": sum(one.certified for one in theirs),
            "looked at": statistics.mean(one.looked_at for one in theirs),
            "hits that differ": sum([hit.id for hit in a] != [hit.id for hit in b] for a, b in pairs),
            "scores that differ": sum([hit.score for hit in a] != [hit.score for hit in b] for a, b in pairs),
            "certificates that differ": sum(
                (a.certified, a.bound, a.looked_at) != (b.certified, b.bound, b.looked_at) for a, b in pairs
            ),
            "answers that differ": sum(a != b for a, b in pairs),
        }
    return found


def _alone(index: Index, codes: np.ndarray, threads: int) -> dict[str, Any]:
    """The times of single queries on one machine."""
    torch.set_num_threads(threads)
    out = {}
    for mode in MODES:
        taken, screened = [], []
        for query in (codes[:1], *np.split(codes, len(codes))):
            started = time.perf_counter()
            index.search(query, K, mode=mode, temperature=TEMPERATURE)
            taken.append(time.perf_counter() - started)
            screened.append(index.snapshot.segments[0].documents.work["screened"])
        out[mode] = {"ms": _ms(taken[1:]), "vectors read": statistics.mean(screened)}
    return out


def _spread_out(spread: ShardedIndex, index: Index, codes: np.ndarray) -> dict[str, Any]:
    """The times of single queries over shards, by part, and the bytes on the wire."""
    parts = len(spread.shards)
    layout = index.snapshot.segments[0].layout
    assert layout is not None
    eight_bits = sum(file.stat().st_size for file in layout.folder.glob("tiles.*"))
    out: dict[str, Any] = {
        "documents of a shard": len(index) / parts,
        "bytes of 8-bit vectors of a shard": eight_bits / parts,
    }
    layout_tiles = len(layout.tiles.centres)
    here = Shard(str(index.path), None, 0, parts, 1)
    for mode in MODES:
        taken, slowest, summed, asked_first, alone, screened, tiles = [], [], [], [], [], [], []
        sent, received = [], []
        with _watched(spread) as asked:
            for query in (codes[:1], *np.split(codes, len(codes))):
                asked.clear()
                started = time.perf_counter()
                spread.search(query, K, mode=mode, temperature=TEMPERATURE)
                taken.append(time.perf_counter() - started)
                *before, last = asked
                slowest.append(max(part.seconds for part in last.answers))
                summed.append(sum(part.seconds for part in last.answers))
                asked_first.append(sum(one.seconds for one in before))
                sent.append(sum(one.sent for one in asked))
                received.append(sum(one.received for one in asked))
                # The first shard's part again, in this process, while nothing else runs.
                alone.append(here.search(*last.arguments).seconds)
                (share,) = here._slices.values()
                screened.append(share.segments[0].documents.work["screened"])
                numbers = last.arguments[-1]
                tiles.append(int(numbers.sum()) / TILE if numbers is not None else layout_tiles)
        merging = [whole - a - b for whole, a, b in zip(taken, slowest, asked_first, strict=True)]
        out[mode] = {
            "ms": _ms(taken[1:]),
            "ms in the slowest shard": _ms(slowest[1:]),
            "ms in all shards": _ms(summed[1:]),
            "ms of the first shard alone": _ms(alone[1:]),
            "ms of asking which tiles": _ms(asked_first[1:]),
            "ms of fan-out and merge": _ms(merging[1:]),
            "8-bit bytes scanned in all": statistics.mean(tiles) * eight_bits / layout_tiles,
            "float32 vectors read of the first shard": statistics.mean(screened),
            "bytes sent": statistics.mean(sent),
            "bytes received": statistics.mean(received),
            "bytes on the loopback": _on_the_loopback(spread, codes, mode),
        }
    return out


@dataclass(frozen=True)
class Asked:
    """A call of all shards."""

    method: str
    arguments: tuple[Any, ...]
    answers: list[Any]
    seconds: float

    @property
    def sent(self) -> int:
        """Bytes of the arguments, to all shards."""
        return len(self.answers) * len(dumps(self.arguments))

    @property
    def received(self) -> int:
        """Bytes of the answers."""
        return sum(len(dumps(one)) for one in self.answers)


@contextmanager
def _watched(spread: ShardedIndex) -> Iterator[list[Asked]]:
    """Records the calls of the shards while the block runs."""
    asked: list[Asked] = []
    ask = spread.shards.ask

    def noted(method: str, *arguments: Any, **settings: Any) -> list[Any]:
        started = time.perf_counter()
        answers = ask(method, *arguments, **settings)
        asked.append(Asked(method, arguments, answers, time.perf_counter() - started))
        return answers

    spread.shards.ask = noted  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        del spread.shards.ask


def _on_the_loopback(spread: ShardedIndex, codes: np.ndarray, mode: str) -> float:
    """Bytes a query on the loopback device, without those of an idle cluster."""
    seconds = 0.02 * len(codes)
    started, before = time.perf_counter(), _loopback()
    time.sleep(seconds)
    idle = (_loopback() - before) / (time.perf_counter() - started)
    started, before = time.perf_counter(), _loopback()
    for query in np.split(codes, len(codes)):
        spread.search(query, K, mode=mode, temperature=TEMPERATURE)
    flowed = _loopback() - before
    return max(0.0, flowed - idle * (time.perf_counter() - started)) / len(codes)


def _loopback() -> int:
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.strip().startswith("lo:")).split(":")[1].split()[0])


def _ms(seconds: list[float]) -> float:
    return round(1_000 * statistics.median(seconds), 3)


def _killed(spread: ShardedIndex, index: Index, codes: np.ndarray, calm: float) -> dict[str, Any]:
    """The answers to two clients while a shard's process is killed. Wrong: it differs and does not say so."""
    truth = index.search(codes, K, temperature=TEMPERATURE)
    told: list[tuple[float, float, str]] = []
    stop = threading.Event()

    def ask(first: int) -> None:
        for place in itertools.cycle(range(first, len(codes), 2)):
            if stop.is_set():
                return
            began = time.perf_counter()
            try:
                (answer,) = spread.search(codes[place : place + 1], K, temperature=TEMPERATURE)
                what = _judged(answer, truth[place])
            except ClusterError:
                what = "failed"
            told.append((began, time.perf_counter(), what))

    clients = [threading.Thread(target=ask, args=(first,)) for first in range(2)]
    for client in clients:
        client.start()
    time.sleep(calm)
    killed = time.perf_counter()
    ray.kill(spread.shards.replicas[-1][0], no_restart=False)
    again = None
    while again is None:
        time.sleep(0.01)
        lost = [end for _, end, what in told if end > killed and what != "whole"]
        # Whole again: the first whole answer to a query sent after the last answer that was not whole.
        since = max([killed, *lost])
        later = [end for began, end, what in list(told) if began > since and what == "whole"]
        slow = [end - began for began, end, _ in list(told) if end > killed]
        if len(later) > 20 and (slow or lost):
            again = min(later)
    time.sleep(calm)
    stop.set()
    for client in clients:
        client.join()
    lost = [end for _, end, what in told if end > killed and what != "whole"]
    again = min(end for began, end, what in told if began > max([killed, *lost]) and what == "whole")
    counted = {what: sum(one == what for _, _, one in told) for what in ("whole", "partial", "failed", "wrong")}
    after = [end - began for began, end, _ in told if end > killed]
    return {
        "answers": counted,
        "seconds until whole again": round(again - killed, 3),
        "longest wait, seconds": round(max(after), 3),
        "median before, ms": _ms([end - began for began, end, _ in told if end < killed]),
    }


def _judged(answer: Answer, truth: Answer) -> str:
    if isinstance(answer, PartialAnswer):
        return "partial" if answer.not_looked_at > 0 and not answer.certified else "wrong"
    return "whole" if answer == truth else "wrong"


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--draw", action="store_true", help="only the tables, from the results that are there")
    command.add_argument("--work", type=Path, default=CACHE / "scale-out", help="where vectors and the index are kept")
    arguments = command.parse_args()
    report = Report("scale_out_search", ("ray", "torch", "lancedb", "numpy"), arguments.quick)
    if not arguments.draw:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            work = Path(folder) if arguments.quick else arguments.work
            work.mkdir(parents=True, exist_ok=True)
            report.keep(measure(arguments.quick, work))
    lines = tables(report.results)
    blocks = partial(put, "scale-out-search", lines, "docs/scaling.md")
    report.publish("Search over shards", lines, summary(report.results), blocks=blocks)


def tables(result: dict[str, Any]) -> list[str]:
    """The tables of the documentation."""
    rows: list[tuple[str, ...]] = []
    parts = (
        "",
        " in the slowest shard",
        " of the first shard alone",
        " of asking which tiles",
        " of fan-out and merge",
    )
    for mode in MODES:
        for threads, row in result["one machine"].items():
            label = f"{mode}, one machine, {threads} thread{'s' if threads != '1' else ''}"
            rows.append((label, f"{row[mode]['ms']:.1f}", *[""] * 6))
        for number, shards in result["shards"].items():
            row = shards[mode]
            times = [f"{row[f'ms{part}']:.1f}" for part in parts]
            wire = f"{row['bytes sent'] + row['bytes received']:,.0f}", f"{row['bytes on the loopback']:,.0f}"
            rows.append((f"{mode}, {number} shard{'s' if number != '1' else ''}", *times, *wire))
    same, about = result["identical"], result["corpus"]
    differ = sum(row["answers that differ"] for row in same.values() if isinstance(row, dict))
    lost = []
    for name, row in result["loss"].items():
        answers = [row["answers"][kind] for kind in ("whole", "partial", "failed", "wrong")]
        waits = f"{row['longest wait, seconds']:.1f}", f"{row['seconds until whole again']:.1f}"
        lost.append((KILLED[name], *answers, *waits))
    header = ("one query, ms", "whole", "slowest shard", "a shard alone", "which tiles", "fan-out, merge")
    answers = ("whole answers", "partial", "refused", "wrong", "longest wait, s", "whole again after, s")
    return [
        *table((*header, "bytes, pickled", "of the system"), rows),
        f"{same['queries']:,} queries over {same['shards']} shards, exact and fast at two fractions: **{differ} "
        "answers that differ** from one machine's.",
        "",
        *table(("a shard is killed", *answers), lost),
        f"{about['documents']:,} documents of {about['dimension']} dimensions, {about['codes']} codes a query, "
        f"k = {about['k']}; a thread each.",
    ]


def summary(result: dict[str, Any]) -> dict[str, Any]:
    most = str(max(SHARDS))
    return {
        "documents": result["corpus"]["documents"],
        "differences over four shards": {
            name: row["answers that differ"] for name, row in result["identical"].items() if isinstance(row, dict)
        },
        "ms": {"one machine, one thread": result["one machine"]["1"]["exact"]["ms"]}
        | {f"{number} shards": row["exact"]["ms"] for number, row in result["shards"].items()},
        "bytes a query, four shards": result["shards"][most]["exact"]["bytes on the loopback"],
        "a shard killed": {name: row["answers"] for name, row in result["loss"].items()},
        "seconds until whole again": {name: row["seconds until whole again"] for name, row in result["loss"].items()},
    }


if __name__ == "__main__":
    main()
