"""What figures depend on: the command, the processor, the versions. They stand beside every table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from polyencoders.scoring import search_path


def machine(command: str, *packages: str) -> dict[str, str]:
    """By name, in the order in which it is printed."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name\t: ")[1].split("\n")[0]
    return {
        "command": f"python benchmarks/{command}",
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "kernel": search_path(),
        "python": platform.python_version(),
    } | {name: version(name) for name in packages}
