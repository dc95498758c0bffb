"""Malformed requests, large bodies, clients that misbehave, and more requests than a server can answer."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from socket import create_connection
from typing import Any

import httpx

import hostile_requests as attacks
from stage import ASK, MB, WORDS, Ordinary, Stage, alike, answers, still_well, verified


def malformed(stage: Stage, seed: int, quick: bool, number: int | None = None) -> dict[str, Any]:
    """Malformed requests of every kind. Memory is measured from the first tenth of them on."""
    number = number or (300 if quick else 10_000)
    index = stage.index()
    with stage.server("--index", index) as server:
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
    """Requests that Schemathesis makes from the OpenAPI document, with an index and without."""
    counts: Counter[str] = Counter()
    problems = []
    # Left out: that exactly what fits the schema is accepted. Conditions are in SQL, which the schema does not
    # describe, and 1 is accepted for true.
    left_out = "positive_data_acceptance,negative_data_rejection"
    for arguments in ([stage.model], ["--index", stage.index()])[quick:]:
        with stage.server(*arguments) as server:
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


def large(stage: Stage, seed: int, quick: bool, size: int | None = None) -> dict[str, Any]:
    """Bodies of 100 MB that are refused for every reason."""
    size = size or (20 * MB if quick else 100 * MB)
    counts: dict[str, Any] = {"bytes of each body": size}
    problems = []
    with stage.server(stage.model, "--api-key", "key") as server:
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
    """Slow, idle, half-closed and vanishing clients, while an ordinary client asks."""
    number = number or (20 if quick else 200)
    problems: list[str] = []
    counts: dict[str, Any] = {"of each kind": number}
    with stage.server("--index", stage.index()) as server:
        before = answers(server)
        whole = attacks.request("/rerank", json.dumps(ASK).encode(), port=server.port)
        footprint = attacks.Footprint(server.pid)
        with Ordinary(server, before) as ordinary:
            with ThreadPoolExecutor(16) as pool:  # a client that only stops sending is answered
                said = list(pool.map(lambda _: attacks.exchange(server.port, whole), range(number)))
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
            while (left := server.metric("polyencoders_requests_in_progress")) > 2 and time.monotonic() < ends:
                time.sleep(0.1)
            counts["vanished and worked for still"] = max(0, int(left) - 2)  # without the ordinary client and this one
            if left > 2:
                problems.append(f"{left - 2:.0f} requests of clients that vanished are still in progress")
            seconds = 13 if quick else 20
            beginnings = {
                "slow headers": b"POST /rerank HTTP/1.1\r\nHost: localhost\r\nX: ",
                "slow bodies": whole[:-100],
                "slow bodies to no route": whole[:-100].replace(b"/rerank", b"/not-here"),
                "nothing": b"",
            }
            with ThreadPoolExecutor(len(beginnings)) as pool:
                run = {
                    name: pool.submit(lambda b=b: attacks.slow_clients(server.port, number // 4, b, seconds))
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
                    idle.enter_context(create_connection(("127.0.0.1", server.port), timeout=10))
                counts["idle connections at once"] = 700
                if not alike(_answer(attacks.exchange(server.port, whole)), before):
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


def crowd(stage: Stage, seed: int, quick: bool, number: int | None = None) -> dict[str, Any]:
    """Many more requests than can be answered within `--max-wait`."""
    number = number or (40 if quick else 400)
    counts: Counter[str] = Counter(requests=number)
    problems: list[str] = []
    with stage.server(stage.model, "--max-wait", "2", "--max-requests", "64") as server:
        before = answers(server)
        most = 0.0
        stop = threading.Event()

        def watch() -> None:
            nonlocal most
            while not stop.wait(0.05):
                with contextlib.suppress(httpx.HTTPError, AssertionError):
                    most = max(most, server.metric("polyencoders_backlog_seconds"))

        def ask(place: int) -> Any:
            texts = [f"{place} {n} " + "bread " * 40 for n in range(20)]
            started = time.monotonic()
            answer = httpx.post(
                f"{server.url}/rerank", json={"query": f"{place}", "texts": texts}, timeout=120, verify=False
            )
            return answer, time.monotonic() - started

        _, cost = ask(-1)  # a request alone
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
            problems.append("the load was too small, or everything was refused")
        problems += still_well(server, before)
    return {
        **counts,
        "one alone, s": round(cost, 2),
        "longest wait of those admitted, s": round(max(waits, default=0), 1),
        "largest backlog seen, s": round(most, 1),
        "problems": problems,
    }
