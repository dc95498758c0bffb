"""How fairly a server shares: the same work split or whole, short requests beside long ones, and the bound on waiting.

    python benchmarks/fairness.py            # about five minutes
    python benchmarks/fairness.py --quick    # a minute; few of each, shows that it runs
    python benchmarks/fairness.py --parts split beside bound    # some of them

The server runs in a process of its own, with an untrained poly-encoder of four codes: its quality changes no time. Its
documents were never seen before. Clients run on the same machine and share its cores. Writes
benchmarks/results/fairness.{json,md} and keeps the parts that were not run; the last line printed is the summary as one
JSON object. Exits with 1 if a part did not show what it should.
"""

from __future__ import annotations

from report import Report, parser, table

# isort: split
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from polyencoders import PolyEncoder
from server_process import running
from serving import backbone, passages, percentiles

MANY = 1_000
ROUNDS = 3
SHORT = 3  # Documents of a short request
PROMISED = 1.0  # Seconds for a short request beside long ones, at p99
SLACK = 2.0  # Seconds beyond `--max-wait`: reading and answering a request, and the last slice
PATIENCE = 900.0


def main() -> int:
    arguments = parser(__doc__, PARTS).parse_args()
    report = Report("fairness", ("torch", "sentence-transformers", "fastapi", "uvicorn", "numpy"), arguments.quick)
    with tempfile.TemporaryDirectory(prefix="fairness-") as folder:
        model = Path(folder, "poly-4")
        PolyEncoder(backbone(), m=4).save_pretrained(str(model))
        for part in arguments.parts:
            report.keep({part: asyncio.run(PARTS[part](model, arguments.quick))})
    report.publish("A server that shares fairly", lines(report.results), summary(report.results))
    return int(not all(row["as promised"] for name, row in report.results.items() if name in PARTS))


class Client:
    """Asks for scores of documents that nobody has seen."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=httpx.Limits(max_connections=300))
        self._pool = passages(2_000)
        self._chance = random.Random(0)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def ask(self, documents: int) -> tuple[int, float]:
        """The status and the seconds of one request."""
        texts = [f"{self._chance.random()} {text}" for text in self._chance.choices(self._pool, k=documents)]
        started = time.perf_counter()
        answer = await self._http.post("/rerank", json={"query": "Any plans for the weekend?", "texts": texts})
        return answer.status_code, time.perf_counter() - started


async def split(model: Path, quick: bool) -> dict[str, Any]:
    """The same documents as one request, and as eight at once."""
    many, rounds = (160, 1) if quick else (MANY, ROUNDS)
    took: dict[str, list[float]] = {"1": [], "8": []}
    statuses: list[int] = []
    with running(model, "--max-wait", PATIENCE, log=model.parent / "split.log") as server:
        async with Client(server.url) as client:
            await client.ask(50)
            for _ in range(rounds):
                for parts in (1, 8):
                    started = time.perf_counter()
                    got = await asyncio.gather(*(client.ask(many // parts) for _ in range(parts)))
                    took[str(parts)].append(time.perf_counter() - started)
                    statuses += [status for status, _ in got]
    refused = sum(status != 200 for status in statuses)
    seconds = {parts: sorted(values)[len(values) // 2] for parts, values in took.items()}
    return {"documents": many, "rounds": rounds, "seconds": seconds, "refused": refused, "as promised": not refused}


async def beside(model: Path, quick: bool) -> dict[str, Any]:
    """Short requests, one after the other, while two clients ask for many documents again and again."""
    many, short = (300, 20) if quick else (MANY, 200)
    with running(model, "--max-wait", PATIENCE, log=model.parent / "beside.log") as server:
        async with Client(server.url) as client:
            alone = [(await client.ask(SHORT))[1] for _ in range(short)]

            async def long() -> None:
                while True:
                    await client.ask(many)

            running_beside = [asyncio.ensure_future(long()) for _ in range(2)]
            await asyncio.sleep(1)
            took = [await client.ask(SHORT) for _ in range(short)]
            for task in running_beside:
                task.cancel()
            await asyncio.gather(*running_beside, return_exceptions=True)
    seconds = percentiles([each for _, each in took], 50, 99, 100)
    answered = all(status == 200 for status, _ in took)
    return {
        "documents": many,
        "short requests": short,
        "alone, s": percentiles(alone, 50, 99, 100),
        "beside, s": seconds,
        "as promised": answered and (quick or seconds["p99"] <= PROMISED),
    }


async def bound(model: Path, quick: bool) -> dict[str, Any]:
    """Requests of all sizes, more than can be done: each is refused at once, or done within `--max-wait`."""
    requests, wait = (60, 3.0) if quick else (1_000, 10.0)
    chance = random.Random(1)
    with running(model, "--max-wait", wait, log=model.parent / "bound.log") as server:
        async with Client(server.url) as client:
            await client.ask(50)
            done: list[float] = []
            refused: list[float] = []

            async def one(documents: int) -> None:
                status, seconds = await client.ask(documents)
                (done if status == 200 else refused).append(seconds)

            asked = []
            for _ in range(requests):
                asked.append(asyncio.ensure_future(one(chance.choice([1, 3, 10, 30, 100, 300]))))
                await asyncio.sleep(chance.expovariate(requests / (20 if quick else 240)))
            await asyncio.gather(*asked)
    late = sum(seconds > wait + SLACK for seconds in done)
    return {
        "requests": requests,
        "may wait, s": wait,
        "done": len(done),
        "done, s": percentiles(done, 50, 99, 100),
        "refused": len(refused),
        "refused, s": percentiles(refused, 50, 99, 100),
        "late": late,
        "as promised": not late,
    }


def lines(results: dict[str, Any]) -> list[str]:
    """The report, in Markdown."""
    made: list[str] = []
    if row := results.get("split"):
        made += [f"## {row['documents']:,} documents as one request, and as eight at once", ""]
        made += table(
            ("", "seconds"),
            [(f"{parts} request{'s' * (parts != '1')}", f"{s:.2f}") for parts, s in row["seconds"].items()],
        )
        made += [f"Medians of {row['rounds']} rounds in turn; refused: {row['refused']}.", ""]
    if row := results.get("beside"):
        made += [f"## {SHORT} documents while two clients ask for {row['documents']:,}, again and again", ""]
        seconds = [(name, *(f"{s:.3f}" for s in row[f"{name}, s"].values())) for name in ("alone", "beside")]
        made += table(("seconds", *row["beside, s"]), seconds)
        made += [f"{row['short requests']} requests, one after the other.", ""]
    if row := results.get("bound"):
        made += [f"## {row['requests']:,} requests of 1 to 300 documents, `--max-wait {row['may wait, s']:g}`", ""]
        header = ("seconds", "requests", "p50", "p99", "p100")
        rows = [
            (name, row[name], *(f"{row[f'{name}, s'].get(p, 0):.2f}" for p in header[2:]))
            for name in ("done", "refused")
        ]
        made += table(header, rows)
        made += [f"Done more than {SLACK:g} s after the bound: {row['late']}.", ""]
    return made


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """What the last line says."""
    keys = ("seconds", "refused", "beside, s", "done, s", "late", "as promised")
    return {part: {key: row[key] for key in keys if key in row} for part, row in results.items() if part in PARTS}


PARTS = {"split": split, "beside": beside, "bound": bound}

if __name__ == "__main__":
    sys.exit(main())
