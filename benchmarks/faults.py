"""Whether an index loses anything: killed writers, many processes at once, damaged files, a full disk.

    python benchmarks/faults.py            # about six minutes
    python benchmarks/faults.py --quick    # under a minute; few of each, shows that it runs
    python benchmarks/faults.py --parts kills crowd    # some of: kills, crowd, damage, full

Vectors are made of the texts by a hash, so that whoever reads a document knows its score. Layouts are made from a few
hundred documents on, so that they are in the way of every fault, too. Writes benchmarks/results/faults.{json,md},
keeping the parts that were not run; the last line printed is the summary as one JSON object. Ends with 1 when anything
was lost.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from polyencoders.errors import IndexingError
from polyencoders.index import Index, searching, verify
from polyencoders.index import index as index_module

RESULTS = Path(__file__).parent / "results"
D = 32
LAID_OUT_FROM = 500
SOUND = 1e-4
"""How far a score may be from that of the vectors in float64, of numbers of about 30."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["polyencoders.index"])  # not the engine: its threads do not survive a fork

State = dict[str, int]
"""The value of each document that is there, by id; its text and vector follow from both."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few of each, writes no results")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    path = RESULTS / "faults.json"
    results: dict[str, Any] = {}
    if not arguments.quick and path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    for part in arguments.parts:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            results[part] = PARTS[part](Path(folder), random.Random(arguments.seed), arguments.quick)
    if not arguments.quick:
        from machine import machine

        results["machine"] = machine("faults.py", "torch", "faiss-cpu", "lancedb", "numpy")
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1), encoding="utf-8")
        (RESULTS / "faults.md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
    print(json.dumps(summary(results)))
    sys.exit(any(results[part]["problems"] for part in PARTS if part in results))


# Documents of which everything is known.


def text_of(id: str, value: int) -> str:
    return f"The text of {id} as of {value}."


@lru_cache(100_000)
def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(D, dtype=np.float32)


def vectors_of(texts: Iterable[str]) -> np.ndarray:
    return np.stack([vector_of(text) for text in texts])


def row(id: str, value: int) -> dict[str, Any]:
    return {"id": id, "text": text_of(id, value), "part": int(id.split("-")[0]), "value": value}


def scores_of(codes: np.ndarray, texts: list[str]) -> np.ndarray:
    """The paper's score of each text for the codes `(m, d)`, in float64: `sum_i softmax_i(y_i . c) y_i . c`."""
    products = vectors_of(texts).astype(np.float64) @ codes.T
    weights = np.exp(products - products.max(1, keepdims=True))
    return (weights * products).sum(1) / weights.sum(1)


@contextmanager
def small() -> Iterator[None]:
    """Layouts and fast searches of few documents, and no model."""

    def encode(model: Any, texts: list[str], bf16: Any, advance: Callable[[int], object]) -> np.ndarray:
        advance(len(texts))
        return vectors_of(texts)

    with (
        patch.object(index_module, "LAID_OUT_FROM", LAID_OUT_FROM),
        patch.object(index_module, "encode_documents", encode),
        patch.object(searching, "LEAST", 50),
    ):
        yield


def made(path: Path, state: State) -> Index:
    documents = [row(id, value) for id, value in state.items()]
    index = Index.from_vectors(path, vectors_of(document["text"] for document in documents), documents)
    index.model = object()  # type: ignore[assignment]
    return index


def opened(path: Path) -> Index:
    index = Index.open(path)
    index.model = object()  # type: ignore[assignment]
    return index


def held(index: Index, ids: Iterable[str]) -> tuple[State, list[str]]:
    """Which of the ids the index holds, with their values; and what is wrong with their texts or metadata."""
    state, wrong = {}, []
    for document in index.get(list(ids)):
        state[document["id"]] = document["value"]
        if document != row(document["id"], document["value"]):
            wrong.append(f"{document['id']} is not what was added: {document}")
    return state, wrong


def wrong_with(index: Index, state: State, draw: random.Random) -> list[str]:
    """What the index has in another way than it should, by its documents and by a search."""
    there, wrong = held(index, state)
    lost, other = state.keys() - there.keys(), [id for id in there if there[id] != state[id]]
    if lost:
        wrong.append(f"{len(lost)} of {len(state)} documents are lost, such as {min(lost)}")
    if other:
        wrong.append(f"{len(other)} of {len(state)} documents are not the latest, such as {other[0]}")
    if len(index) != len(state):
        wrong.append(f"it has {len(index)} documents in place of {len(state)}")
    if wrong or not state:
        return wrong
    codes = np.random.default_rng(draw.getrandbits(32)).standard_normal((2, draw.choice((1, 4)), D))
    ids = list(state)
    texts = [text_of(id, value) for id, value in state.items()]
    for query, answer in zip(codes, index.search(codes, k=20), strict=True):
        scores = scores_of(query, texts)
        best = np.argsort(-scores)[: len(answer)]
        if len(answer) != min(20, len(ids)) or [hit.id for hit in answer] != [ids[i] for i in best]:
            wrong.append("a search did not find the best documents")
        elif np.abs(scores[best] - [hit.score for hit in answer]).max() > SOUND:
            wrong.append("a search found other scores than those of the vectors")
    return wrong


# Killed writers.

Change = dict[str, int | None]
"""New values by id; None: deleted."""


class Journal:
    """What was begun and what was done, on the disk before anything else happens."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, entry: dict[str, Any]) -> None:
        os.write(self.descriptor, (json.dumps(entry) + "\n").encode())
        os.fsync(self.descriptor)

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        return [json.loads(line) for line in lines[:-1]]  # the last one is empty, or was not written to its end


def change_until_killed(path: Path, journal: Path, state: State, first: int, seed: int, start: Any) -> None:
    """Add, replace, delete and compact, telling the journal before and after each; `start` says when."""
    import lancedb  # noqa: F401  so that starting takes no time

    start.recv()
    draw, log = random.Random(seed), Journal(journal)
    with small():
        index = opened(path)
        for value in range(first, first + 1_000_000):
            kind, chunks, size = drawn(draw, state, value)
            log.write({"begun": kind, "chunks": chunks})
            apply(index, kind, chunks, size, draw)
            log.write({"done": kind})
            for chunk in chunks:
                changed(state, chunk)


def drawn(draw: random.Random, state: State, value: int) -> tuple[str, list[Change], int]:
    """The next operation: what it is called, what each of its versions changes, and how large these are."""
    kinds = ("add", "replace", "delete", "delete where", "compact")
    many = len(state) > 2_500
    kind = draw.choices(kinds, (1, 6, 6, 6, 3) if many else (10, 6, 2, 1, 3))[0]
    if kind == "compact" or not state:
        return "compact", [], 0
    if kind == "delete where":
        part = draw.choice([id.split("-")[0] for id in draw.sample(sorted(state), min(5, len(state)))])
        return kind, [{id: None for id in state if id.startswith(part + "-")}], 0
    number = draw.randint(1, 300)
    if kind == "add":
        ids = [f"{value % 20}-{value}.{place}" for place in range(number)]
    else:
        ids = draw.sample(sorted(state), min(number, len(state)))
    if kind == "delete":
        return kind, [dict.fromkeys(ids)], 0
    size = draw.choice((20, 50, 100, 300))
    return kind, [dict.fromkeys(ids[at : at + size], value) for at in range(0, len(ids), size)], size


def apply(index: Index, kind: str, chunks: list[Change], size: int, draw: random.Random) -> None:
    if kind == "compact":
        index.compact(draw.choice((timedelta(milliseconds=1), timedelta(days=1))))
    elif kind == "delete where":
        index.delete(where=f"part = {next(iter(chunks[0])).split('-')[0]}")
    elif kind == "delete":
        index.delete(list(chunks[0]))
    else:
        index.add([row(id, value) for chunk in chunks for id, value in chunk.items()], chunk=size)


def changed(state: State, change: Change) -> None:
    for id, value in change.items():
        if value is None:
            state.pop(id, None)
        else:
            state[id] = value


def kills(folder: Path, draw: random.Random, quick: bool = False, runs: int | None = None) -> dict[str, Any]:
    """One index, whose writer is killed again and again."""
    runs = runs or (5 if quick else 50)
    path = folder / "index"
    state = {f"{place % 20}-{place}": 0 for place in range(LAID_OUT_FROM + 100)}
    with small():
        made(path, state)
    counts: Counter[str] = Counter(runs=runs)
    problems: list[str] = []
    begun: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    first = 1
    waiting = None
    for run in tqdm(range(runs), desc="killed writers"):
        journal = folder / f"{run}.jsonl"
        if waiting is None:
            waiting = _waiting(path, journal, dict(state), first, draw)
        child, start = waiting
        start.send(None)
        _until(lambda journal=journal, child=child: journal.exists() and journal.stat().st_size > 0, child)
        time.sleep(draw.uniform(0, 0.6 if quick else 2.0))
        if not child.is_alive():
            problems.append(f"run {run}: the writer ended by itself, with {child.exitcode}")
        child.kill()
        child.join()
        entries = Journal.read(journal)
        pending: list[Change] = []
        kind = None
        for entry in entries:
            if "begun" in entry:
                kind, pending = entry["begun"], entry["chunks"]
                begun[kind] += 1
            else:
                for chunk in pending:
                    changed(state, chunk)
                counts["acknowledged operations"] += 1
                kind, pending = None, []
        first += sum("begun" in entry for entry in entries)
        counts["killed while a layout was written"] += _half_written(path, draw)
        wrong = verify(path)
        index = Index.open(path)
        there, torn = settled(index, state, pending)
        wrong += torn
        if kind is not None:
            hit[kind] += 1
            counts["killed during an operation"] += 1
            if pending:
                counts[("nothing", "some chunks", "everything")[(there > 0) + (there == len(pending))] + " of it"] += 1
        wrong += wrong_with(index, state, draw)
        counts["documents compared"] += len(state)
        problems += [f"run {run}, during {kind}: {one}" for one in wrong]
        if wrong:
            break
        waiting = _waiting(path, folder / f"{run + 1}.jsonl", dict(state), first, draw) if run + 1 < runs else None
    counts["operations begun"] = sum(begun.values())
    with small():  # and it goes on
        index = opened(path)
        index.add([row("0-last", first)])
        state["0-last"] = first
        index.compact(timedelta(milliseconds=1))
        problems += verify(path) + wrong_with(index, state, draw)
    counts["documents at the end"] = len(state)
    return {**counts, "killed during": dict(hit), "problems": problems}


def settled(index: Index, state: State, pending: list[Change]) -> tuple[int, list[str]]:
    """How many chunks of the operation under way are there, of which each must be whole; `state` is brought up."""
    wrong = []
    there, _ = held(index, {id for chunk in pending for id in chunk})
    done = 0
    for place, chunk in enumerate(pending):
        if all(there.get(id) == value for id, value in chunk.items()):
            if done < place:
                wrong.append(f"chunk {place} is there, and one before it is not")
            changed(state, chunk)
            done += 1
        elif any(there.get(id) != state.get(id) for id in chunk):
            new = sum(there.get(id) == value for id, value in chunk.items())
            wrong.append(f"chunk {place} is torn: {new} of its {len(chunk)} documents are there")
    return done, wrong


def _waiting(path: Path, journal: Path, state: State, first: int, draw: random.Random) -> tuple[Any, Any]:
    ours, theirs = processes.Pipe()
    arguments = (path, journal, state, first, draw.getrandbits(32), theirs)
    child = processes.Process(target=change_until_killed, args=arguments, daemon=True)
    child.start()
    return child, ours


def _until(true: Callable[[], bool], child: Any, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends or not child.is_alive():
            raise RuntimeError(f"the writer did not begin (it ended with {child.exitcode})")
        time.sleep(0.002)


def _half_written(path: Path, draw: random.Random) -> bool:
    """Whether the killed writer left a layout that it had begun, which no earlier one did."""
    seen = _half_written.__dict__.setdefault(path, set())
    fresh = {folder.name for folder in (path / "search").glob(".*")} - seen
    seen |= fresh
    return bool(fresh)


# Many processes.

BATCHES, SIZE = 40, 25


def write_batches(path: Path, seconds: float, writer: int, seed: int, tell: Any) -> None:
    """Add, replace and delete whole batches, each in one version."""
    draw, counts = random.Random(seed), Counter[str]()
    with _told(tell, counts), small():
        index = opened(path)
        ends, compacted = _together(tell) + seconds, time.time()
        value = writer
        while time.time() < ends:
            value += 2  # of one writer alone
            batches = draw.sample(range(BATCHES), draw.choice((1, 1, 2, 3)))
            if draw.random() < 0.75:
                rows = [row(f"{batch}-{place}", value) for batch in batches for place in range(SIZE)]
                done = index.add(rows, chunk=SIZE)
                counts["batches written"] += len(batches)
                counts["documents added"] += done.added
                counts["documents replaced"] += done.replaced
            elif draw.random() < 0.5:
                counts["documents deleted"] += index.delete(where=f"part = {batches[0]}")
            else:
                counts["documents deleted"] += index.delete([f"{batches[0]}-{place}" for place in range(SIZE)])
            if writer == 0 and time.time() > compacted + 3:
                index.compact(timedelta(minutes=1))
                compacted = time.time()
                counts["compactions"] += 1
            counts["operations"] += 1


def read_batches(path: Path, seconds: float, reader: int, seed: int, tell: Any) -> None:
    """Search, and look whether every batch is whole and every score right; one of them verifies the files, too."""
    draw, counts = random.Random(seed), Counter[str]()
    codes = np.random.default_rng(seed)
    with _told(tell, counts), small():
        index = Index.open(path)
        version, ends = 0, _together(tell) + seconds
        while time.time() < ends:
            index.refresh()
            if index.version < version:
                raise AssertionError(f"version {index.version} after {version}")
            counts["versions seen"] += index.version != version
            if reader == 2 and draw.random() < 0.1:
                counts["verified meanwhile"] += 1
                if wrong := verify(path):
                    raise AssertionError(f"verify, beside writers: {wrong}")
            version = index.version
            for _ in range(draw.randint(1, 3)):
                _look(index, codes.standard_normal((1, draw.choice((1, 4)), D)), draw, counts)


def _look(index: Index, codes: np.ndarray, draw: random.Random, counts: Counter[str]) -> None:
    some = sorted(draw.sample(range(BATCHES), draw.choice((1, 3, 15))))
    where = draw.choice((None, f"part IN ({', '.join(map(str, some))})"))
    everything = index.search(codes, k=BATCHES * SIZE + 1, where=where)[0]
    batches: dict[int, list[Any]] = defaultdict(list)
    for hit in everything:
        batches[hit.metadata["part"]].append(hit)
    for batch, hits in batches.items():
        values = {hit.metadata["value"] for hit in hits}
        if len(values) > 1 or {hit.id for hit in hits} != {f"{batch}-{place}" for place in range(SIZE)}:
            raise AssertionError(f"batch {batch} in version {index.version}: {len(hits)} documents of values {values}")
        if where is not None and batch not in some:
            raise AssertionError(f"batch {batch} was found with the filter {where}")
    counts["batches looked at"] += len(batches)
    right = scores_of(codes[0], [hit.text for hit in everything]) if len(everything) else np.empty(0)
    for hit, score in zip(everything, right, strict=True):
        if hit.text != text_of(hit.id, hit.metadata["value"]) or abs(hit.score - score) > SOUND:
            raise AssertionError(f"{hit} has the score {score}")
    best = index.search(codes, k=10, where=where)[0]
    if [hit.id for hit in best] != [hit.id for hit in everything][:10] or not best.certified:
        raise AssertionError(f"the ten best of version {index.version} are not the best of all")
    fast = index.search(codes, k=10, where=where, mode="fast", share=draw.choice((0.05, 0.3)))[0]
    found = {hit.id for hit in fast}
    scores = {hit.id: hit.score for hit in everything}
    if any(abs(scores[hit.id] - hit.score) > SOUND for hit in fast):
        raise AssertionError(f"fast, version {index.version}: the scores are not those of the vectors")
    if any(score > fast.bound + SOUND for id, score in scores.items() if id not in found):
        raise AssertionError(f"fast, version {index.version}: a document that was missed is above the bound")
    if fast.certified and [hit.id for hit in fast] != [hit.id for hit in best]:
        raise AssertionError(f"fast, version {index.version}: certified, and not the best")
    counts["searches"] += 3
    counts["fast searches that left documents out"] += fast.looked_at < len(everything)


def _together(tell: Any) -> float:
    """The moment at which all of them are ready."""
    tell.send("ready")
    return float(tell.recv())


@contextmanager
def _told(tell: Any, counts: Counter[str]) -> Iterator[None]:
    error = None
    try:
        yield
    except BaseException:
        error = traceback.format_exc()
    tell.send((dict(counts), error))


def crowd(folder: Path, draw: random.Random, quick: bool = False, seconds: float | None = None) -> dict[str, Any]:
    """Two writers and four readers of one index."""
    seconds = seconds or (8 if quick else 60)
    path = folder / "index"
    with small():
        before = made(path, {f"{batch}-{place}": 0 for batch in range(BATCHES) for place in range(SIZE)}).version
    at_work = []
    for place in range(6):
        ours, theirs = processes.Pipe()
        seed = draw.getrandbits(32)
        target: Callable[..., None] = write_batches if place < 2 else read_batches
        child = processes.Process(target=target, args=(path, seconds, place, seed, theirs), daemon=True)
        child.start()
        theirs.close()
        at_work.append((child, ours))
    for _, ours in at_work:
        ours.recv()
    for _, ours in at_work:
        ours.send(time.time())
    counts: Counter[str] = Counter(writers=2, readers=4, seconds=round(seconds))
    problems = []
    for _ in tqdm(range(round(seconds)), desc="many processes", unit="s"):
        time.sleep(1)
    for child, ours in at_work:
        try:
            some, error = ours.recv() if ours.poll(60) else ({}, "it did not end")
        except EOFError:
            some, error = {}, f"it ended with {child.exitcode}"
        counts.update(some)
        problems += [error] if error else []
        child.kill()
        child.join()
    with small():
        index = Index.open(path)
        counts["versions made"] = index.version - before
        problems += verify(path)
        _look(index, np.random.default_rng(0).standard_normal((1, 4, D)), draw, Counter())
    return {**counts, "problems": problems}


# Damaged files.


def damage(folder: Path, draw: random.Random, quick: bool = False) -> dict[str, Any]:
    """Bytes flipped, files cut short and files taken away, one at a time."""
    path = folder / "index"
    state = {f"{place % 20}-{place}": 0 for place in range(LAID_OUT_FROM + 100)}
    with small():
        index = made(path, state)
        for value in range(1, 7):
            ids = draw.sample(sorted(state), 60)
            index.add([row(id, value) for id in ids])
            changed(state, dict.fromkeys(ids, value))
            gone = draw.sample(sorted(state), 10)
            index.delete(gone)
            changed(state, dict.fromkeys(gone))
            if value == 3:
                index.compact(timedelta(milliseconds=1))
    problems = verify(path) + wrong_with(Index.open(path), state, draw)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    # A hint that the engine does without, and a lock that is empty: whatever is in them, nothing may be lost.
    idle = [name for name in names if name.endswith(("latest_version_hint.json", ".lock"))]
    counts: Counter[str] = Counter({"files": len(names), "of which hold nothing": len(idle)})
    for name in tqdm(names, desc="damaged files"):
        file = path / name
        content = file.read_bytes()
        ways: list[tuple[str, bytes | None]] = [("missing", None)]
        if content:
            places = [draw.randrange(len(content))]
            places += [] if quick else [0, len(content) // 2, len(content) - 1]
            places += draw.sample(range(6, 80), 1 if quick else 20) if name.endswith(".npy") else []  # in the header
            for at in places:
                bit = 1 << draw.randrange(8)
                ways.append(("flipped", content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]))
            ways += [("cut short", content[: len(content) // 2]), ("cut short", b"")]
        for how, damaged in ways:
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            try:
                if name in idle:
                    found = verify(path) + wrong_with(Index.open(path), state, draw)
                    counts["holds nothing, and did no harm"] += not found
                    problems += [f"{name}, {how}: {one}" for one in found]
                    continue
                found = verify(path)
                named = any(name in one for one in found)
                counts[how] += 1
                counts[f"{how}, found"] += bool(found)
                counts[f"{how}, named"] += named
                if not named:
                    problems.append(f"{name}, {how}: " + (f"not named, but {found}" if found else "not found"))
            except BaseException as error:  # the engine's panics are no Exceptions
                if isinstance(error, KeyboardInterrupt):
                    raise
                problems.append(f"{name}, {how}: {error!r} in place of a report")
            finally:
                file.write_bytes(content)
    problems += [f"after all was put back: {one}" for one in verify(path)]
    layout = [name for name in names if name.startswith("search/")]
    for name in draw.sample(layout, 2 if quick else len(layout)):
        file = next((path / "search").glob(f"*/{Path(name).name}"))
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with small():
            Index.open(path).compact()
        wrong = verify(path) + wrong_with(Index.open(path), state, draw)
        counts["layouts mended by compact"] += not wrong
        problems += [f"{name}, after compact: {one}" for one in wrong]
    return {**counts, "problems": problems}


# A full disk.


def fill(path: Path, journal: Path, first: int, largest: int | None, tell: Any) -> None:
    """Add until there is no room; then try everything else."""
    counts: Counter[str] = Counter()
    with _told(tell, counts), small():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        log, index = Journal(journal), opened(path)
        error = None
        for value in range(first, first + 10_000):
            size = 200 if largest is None else 200 * (value - first + 1)  # where files are limited, ever larger ones
            change = {f"{value % 20}-{value}.{place}": value for place in range(size)}
            log.write({"chunks": [change]})
            try:
                index.add([row(id, one) for id, one in change.items()])
            except IndexingError as full:
                error = full
                break
            log.write({"done": True})
            counts["chunks until it was full"] += 1
        if error is None:
            raise AssertionError("the disk is never full")
        log.write({"said": str(error)})
        if "\n" in str(error):
            raise AssertionError(f"not one line: {error}")
        for _ in range(5):  # tried again, it says so again
            try:
                index.add([row(id, one) for id, one in change.items()])
                log.write({"done": True})
                break
            except IndexingError:
                pass
        index.search(np.ones((1, 4, D)), k=5)
        try:
            index.compact()
        except IndexingError:
            counts["compactions refused"] += 1


def full(folder: Path, draw: random.Random, quick: bool = False, rounds: int | None = None) -> dict[str, Any]:
    """An index on a disk that becomes full, is given room, and becomes full again."""
    rounds = rounds or (1 if quick else 6)
    with _disk(folder / "disk", 4 if rounds > 1 else 2) as grow:
        how = "a tmpfs of a few MB" if grow is not None else "RLIMIT_FSIZE: no file above a size"
        return {"how": how, **_full(folder, draw, rounds, grow)}


def _full(folder: Path, draw: random.Random, rounds: int, grow: Callable[[int], object] | None) -> dict[str, Any]:
    path = folder / "disk" / "index"
    state = {f"{place % 20}-{place}": 0 for place in range(100)}
    with small():
        made(path, state)
    counts: Counter[str] = Counter(rounds=rounds)
    problems: list[str] = []
    said = ""
    for turn in tqdm(range(rounds), desc="a full disk"):
        journal = folder / f"full-{turn}.jsonl"
        ours, theirs = processes.Pipe()
        largest = None if grow is not None else (turn + 1) * 300_000
        child = processes.Process(target=fill, args=(path, journal, 1_000 * (turn + 1), largest, theirs), daemon=True)
        child.start()
        theirs.close()
        try:
            some, error = ours.recv()
        except EOFError:
            child.join()
            some, error = {}, f"the writer crashed: it ended with {child.exitcode}"
        child.join()
        counts.update(some)
        wrong = [error] if error else []
        pending: list[Change] = []
        for entry in Journal.read(journal):
            if "chunks" in entry:
                pending = entry["chunks"]
            elif "done" in entry:
                for chunk in pending:
                    changed(state, chunk)
                counts["acknowledged chunks"] += 1
                pending = []
            elif "said" in entry:
                counts["errors that say so"] += 1
                said = entry["said"]
        wrong += [f"while it is full: {one}" for one in verify(path)]
        index = Index.open(path)
        wrong += settled(index, state, pending)[1] + wrong_with(index, state, draw)
        if grow is not None:
            grow(4 + 3 * (turn + 1))
        wrong += [f"with room: {one}" for one in verify(path)]
        with small():
            index = opened(path)
            again = {id: value for chunk in pending for id, value in chunk.items()} or {f"0-again.{turn}": turn}
            index.add([row(id, value) for id, value in again.items()])
            changed(state, again)
        wrong += [f"going on: {one}" for one in verify(path) + wrong_with(Index.open(path), state, draw)]
        problems += [f"round {turn}: {one}" for one in wrong]
    counts["documents at the end"] = len(state)
    return {**counts, "said": said.replace(str(path), "INDEX"), "problems": problems}


@contextmanager
def _disk(path: Path, size: int) -> Iterator[Callable[[int], object] | None]:
    """A file system of so many megabytes, and what makes it larger; or None, where none can be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(path)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}m", str(path)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


# What is told of it.

PARTS: dict[str, Callable[[Path, random.Random, bool], dict[str, Any]]] = {
    "kills": kills,
    "crowd": crowd,
    "damage": damage,
    "full": full,
}
TITLES = {
    "kills": "A writer is killed (SIGKILL), again and again, at the same index",
    "crowd": "Two writers and four readers at once",
    "damage": "One file at a time is damaged",
    "full": "The disk is full",
}


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The counts, and whether anything was lost."""
    parts = {part: results[part] for part in PARTS if part in results}
    out: dict[str, Any] = {"problems": sum(len(counts["problems"]) for counts in parts.values())}
    return out | {part: {k: v for k, v in counts.items() if k != "problems"} for part, counts in parts.items()}


def markdown(results: dict[str, Any]) -> str:
    """A table of each part."""
    lines = ["# What an index loses", ""]
    if "machine" in results:
        lines += ["`" + "`, `".join(f"{name}: {value}" for name, value in results["machine"].items()) + "`", ""]
    for part, title in TITLES.items():
        if part not in results:
            continue
        lines += [f"## {title}", "", "| | |", "|---|---|"]
        for name, value in results[part].items():
            if name == "problems":
                value = len(value)
            elif isinstance(value, dict):
                value = ", ".join(f"{key} {number}" for key, number in sorted(value.items()))
            lines.append(f"| {name} | {f'{value:,}' if isinstance(value, int) else value} |")
        lines += ["", *(f"- {' '.join(one.split())[-500:]}" for one in results[part]["problems"]), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
