"""What a server withstands: malformed requests, bodies of 100 MB, clients that misbehave, kills and signals.

    python tests/stress/serving_attacks.py            # an hour and a half: 10,000 bodies for each route
    python tests/stress/serving_attacks.py --quick    # under a minute; few of each
    python tests/stress/serving_attacks.py --parts kills clients    # some of the parts
    python tests/stress/serving_attacks.py --parts mutated --bodies 1000    # as many for each route

Servers are started through the command line, on a poly-encoder of all-MiniLM-L6-v2 with a small index. Writes
benchmarks/results/serving_attacks.{json,md} and keeps the parts that were not run; the last line printed is the summary
as one JSON object. Exits with 1 if anything was wrong.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
from pathlib import Path

import command  # isort: skip  it finds the benchmarks, and sets the environment of PyTorch
from hostile_clients import clients, crowd, documented, large, malformed
from mutated_bodies import mutated
from server_kills import kills, stops
from stage import Stage

PARTS = {
    "malformed": command.Part(malformed, "Malformed requests"),
    "mutated": command.Part(mutated, "Changed bodies, for every route that takes one"),
    "documented": command.Part(documented, "The OpenAPI document, tried by Schemathesis"),
    "large": command.Part(large, "Bodies far too large"),
    "clients": command.Part(clients, "Clients that are slow, stop half-way or vanish"),
    "crowd": command.Part(crowd, "More requests than can be answered: at most 2 s of work may wait"),
    "stops": command.Part(stops, "Reloaded (SIGHUP) and stopped (SIGTERM) with requests in progress"),
    "kills": command.Part(kills, "Killed (SIGKILL) while three clients write, and started again"),
}


if __name__ == "__main__":
    packages = ("torch", "lancedb", "fastapi", "starlette", "uvicorn", "h11", "pydantic", "schemathesis")
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        stage = Stage.with_backbone(Path(folder))

        def start(part: command.Part, seed: int, quick: bool, bodies: int | None = None) -> command.Counts:
            stage.forked = quick
            more = {"number": bodies} if part is PARTS["mutated"] else {}
            return part.run(stage, seed, quick, **more)

        command.run("serving_attacks", "What a server takes", __doc__, PARTS, packages, start, ("bodies",))
