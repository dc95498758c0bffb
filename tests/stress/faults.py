"""Whether an index loses anything: killed writers, many processes at once, damaged files, a full disk.

    python tests/stress/faults.py            # about six minutes
    python tests/stress/faults.py --quick    # under a minute; few of each
    python tests/stress/faults.py --parts kills crowd    # some of: kills, crowd, damage, full

A text's vector is a hash of it, so that the score of every document is known. Writes
benchmarks/results/faults.{json,md} and keeps the parts that were not run; the last line printed is the summary as one
JSON object. Exits with 1 if anything was lost.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import tempfile
from pathlib import Path

import command  # isort: skip  it finds the benchmarks, and sets the environment of PyTorch
from damaged_files import damage
from full_disk import full
from killed_writers import kills
from many_processes import crowd

PARTS = {
    "kills": command.Part(kills, "A writer is killed (SIGKILL), again and again, at the same index"),
    "crowd": command.Part(crowd, "Two writers and four readers at once"),
    "damage": command.Part(damage, "One file at a time is damaged"),
    "full": command.Part(full, "The disk is full"),
}


def start(part: command.Part, seed: int, quick: bool) -> command.Counts:
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        return part.run(Path(folder), random.Random(seed), quick)


if __name__ == "__main__":
    packages = ("torch", "faiss-cpu", "lancedb", "numpy")
    command.run("faults", "What an index loses", __doc__, PARTS, packages, start)
