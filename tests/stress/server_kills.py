"""A server is killed, reloaded and stopped while clients use it."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from server_process import ServerProcess
from stage import WORDS, Ordinary, Stage, answers, verified

State = dict[str, str | None]
"""The text of each document by id. None: deleted."""


class Writer(threading.Thread):
    """A client that adds, replaces and deletes documents of its own; its state is what the server acknowledged."""

    def __init__(self, server: ServerProcess, name: str, state: State, seed: int) -> None:
        super().__init__()
        self._url, self._name, self._draw = server.url, name, random.Random(seed)
        self._stopped = threading.Event()
        self.state = state
        self.pending: State = {}
        self.acknowledged = 0
        self.refused: list[str] = []

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, verify=False) as client:
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
    """A server is killed while clients write, and started again on the same index. Acknowledged changes must stay."""
    rounds = rounds or (2 if quick else 50)
    draw = random.Random(seed)
    index, log = stage.index(50), stage.log()
    state: State = {}
    counts: Counter[str] = Counter(rounds=rounds)
    problems: list[str] = []
    server = ServerProcess(["--index", index], log, forked=quick).wait_until_ready()
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
            server = ServerProcess(["--index", index], log, forked=forked).wait_until_ready()
            for one in crowd:
                done, wrong = _settled(server, state, one.pending)
                counts["not acknowledged, but done"] += done
                problems += [f"round {turn}: {text}" for text in wrong]
            wrong, looked_at = _lost(server, state, draw, everything=turn + 1 == rounds)
            counts["documents looked at"] += looked_at
            problems += [f"round {turn}: {text}" for text in wrong]
        counts["documents at the end"] = int(httpx.get(f"{server.url}/info", verify=False).json()["index"]["documents"])
        expected = 50 + sum(text is not None for text in state.values())
        if counts["documents at the end"] != expected:
            problems.append(f"{counts['documents at the end']} documents in place of {expected}")
    finally:
        server.kill()
    problems += verified(index)
    return {**counts, "problems": problems}


def _owner(id: str, writers: int) -> int:
    return int(id.split("-")[1]) % writers


def _there(server: ServerProcess, id: str) -> str | None:
    answer = httpx.get(f"{server.url}/documents/{id}", timeout=30, verify=False)
    return str(answer.json()["text"]) if answer.status_code == 200 else None


def _settled(server: ServerProcess, state: State, pending: State) -> tuple[bool, list[str]]:
    """Whether an unacknowledged change was done, and problems if only half of it was; the state is updated."""
    done = {id: _there(server, id) == text != state.get(id) for id, text in pending.items()}
    if any(done.values()) and not all(done.values()):
        return False, [f"a change is half there: {done}"]
    if all(done.values()):
        state |= pending
    return bool(pending) and all(done.values()), []


def _lost(server: ServerProcess, state: State, draw: random.Random, everything: bool) -> tuple[list[str], int]:
    """Problems with acknowledged documents, and how many were checked: of many, the latest and a sample."""
    ids = list(state)
    if not everything and len(ids) > 80:
        ids = ids[-40:] + draw.sample(ids[:-40], 40)
    wrong = [f"{id} is {found!r} in place of {state[id]!r}" for id in ids if (found := _there(server, id)) != state[id]]
    for id in draw.sample(ids, min(5, len(ids))):
        asked = {"query": state[id] or "tea", "k": 1, "where": f"id = '{id}'"}
        hits = httpx.post(f"{server.url}/search", json=asked, timeout=30, verify=False).json()["hits"]
        if [hit["text"] for hit in hits] != ([] if state[id] is None else [state[id]]):
            wrong.append(f"a search for {id} finds {hits}")
    return wrong, len(ids)


def _status_of_long_request(url: str, number: int) -> int | str:
    body = {"query": f"{number}", "texts": [f"{n} " + "bread " * 60 for n in range(60)]}
    try:
        return httpx.post(f"{url}/rerank", json=body, timeout=90, verify=False).status_code
    except httpx.HTTPError as error:
        return repr(error)


def stops(stage: Stage, seed: int, quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """SIGHUP under load, then SIGTERM, once or twice, with requests in progress. Every request must be answered."""
    rounds = rounds or (1 if quick else 10)
    counts: Counter[str] = Counter(rounds=rounds)
    problems: list[str] = []
    for turn in range(rounds):
        server = ServerProcess([stage.model, "--max-wait", "60"], stage.log(), forked=quick or turn > 0)
        try:
            before = answers(server.wait_until_ready())
            with contextlib.ExitStack() as crowd:
                askers = [crowd.enter_context(Ordinary(server, before, pause=0)) for _ in range(4)]
                for _ in range(3):
                    server.signal(signal.SIGHUP)
                    time.sleep(0.3)
                ends = time.monotonic() + 60
                while server.metric("polyencoders_generation") < 3 and time.monotonic() < ends:
                    time.sleep(0.05)
                counts["loaded again"] += int(server.metric("polyencoders_generation")) - 1
            counts["answered while it was loaded again"] += sum(one.answered for one in askers)
            problems += [problem for one in askers for problem in one.problems]
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(_status_of_long_request, server.url, place) for place in range(4)]
                ends = time.monotonic() + 30
                while server.metric("polyencoders_requests_in_progress") < 1 + len(asked) and time.monotonic() < ends:
                    if all(one.done() for one in asked):
                        break
                unanswered = sum(not one.done() for one in asked)
                server.signal(signal.SIGTERM)
                if turn % 2:
                    time.sleep(0.05)
                    server.signal(signal.SIGTERM)
                    counts["told twice"] += 1
                time.sleep(0.5)
                with contextlib.suppress(httpx.TransportError):
                    late = httpx.get(f"{server.url}/health", verify=False)
                    problems.append(f"it is stopping, and answered a new connection: {late.status_code}")
            code = server.exit_code(60)
            counts["in progress when it was told to stop, and answered"] += unanswered
            problems += [f"a request in progress got {got}" for one in asked if (got := one.result()) != 200]
            if code != 0:
                problems.append(f"it ended with {code}")
            problems += [f"its log: {line}" for line in server.errors()]
        finally:
            server.kill()
    return {**counts, "problems": problems}
