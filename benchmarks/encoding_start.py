"""The part `start` of `encoding.py`: the command line and the server from nothing to an answer, memory, and disk.

Exported models run in a copy of what `pip install "polyencoders[serve]"` brings, which has no PyTorch. The copy's files
are not mapped by anybody else, so the system can be made to forget them: that is `cold`. Python itself stays warm.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import psutil
from packaging.requirements import Requirement

import polyencoders
from polyencoders import load
from polyencoders.data import chitchat_replies
from polyencoders.export import export_model
from polyencoders.index import Index
from server_process import running
from timing import seconds


def measure_start(exports: dict[str, Path], model: Path, documents: int, starts: int) -> list[dict[str, Any]]:
    """Seconds of `polyencoders search`, cold and warm, and of a server until `/ready`; the server's memory."""
    rows = []
    contenders = {"float32": exports["float32"], "int8": exports["int8"], "PyTorch": model}
    if starts == 1:
        contenders = {"float32": exports["float32"]}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        site = environment(scratch / "site", "polyencoders[serve]")
        index = scratch / "index"
        Index.create(index, load(exports["float32"])).add(chitchat_replies()[:documents])
        for name, path in contenders.items():
            if name == "int8":  # its documents would be in int8 too; queries alone may be
                path = export_model(load(model), scratch / "int8", "int8").path
            command = ["-m", "polyencoders", "search", str(index), "--model", str(path), "--query", "Any plans?"]
            alone = name != "PyTorch"
            paths = {"PYTHONPATH": str(site) if alone else os.pathsep.join(filter(None, sys.path))}

            def search(command: list[str] = command, alone: bool = alone, paths: dict[str, str] = paths) -> None:
                call = [sys.executable, *(["-S"] if alone else []), *command]
                subprocess.run(call, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **paths})

            cold = []
            for _ in range(starts if alone else 0):
                forget([site, index, path])
                cold.append(seconds(search))
            warm = [seconds(search) for _ in range(starts + 1)][1:]
            ready = []
            for _ in range(starts + 1):
                with running(path, "--index", index, log=scratch / "log") as server:
                    ready.append(server.ready_after)
                    httpx.post(f"{server.url}/search", json={"query": "Any plans?", "k": 10}).raise_for_status()
                    memory = psutil.Process(server.pid).memory_full_info()
            rows.append(
                {
                    "name": name,
                    "search, cold": statistics.median(cold) if cold else None,
                    "search": statistics.median(warm),
                    "ready": statistics.median(ready[1:]),
                    "resident": memory.rss / 1e6,
                    "own": memory.uss / 1e6,
                }
            )
    return rows


def measure_disk() -> list[dict[str, Any]]:
    """Megabytes of what is installed, without Python."""
    asked = ("polyencoders", "polyencoders[index,serve]", "polyencoders[train,index,serve]")
    return [{"name": name, "MB": sum(one.stat().st_size for one in files(name)) / 1e6} for name in asked]


def distributions(asked: str) -> Iterable[metadata.Distribution]:
    """What a requirement comes to here, and what that needs in turn."""
    found, seen, waiting = {}, set(), [Requirement(asked)]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) not in seen:
                seen.add((requirement.name, extra))
                found[requirement.name] = one = metadata.distribution(requirement.name)
                needs = map(Requirement, one.requires or ())
                waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return found.values()


def tops(asked: str) -> set[Path]:
    """The files and folders that a requirement has in `site-packages`, and this package's own."""
    own = Path(polyencoders.__file__).parent
    return {own} | {
        Path(str(one.locate_file(file.parts[0])))
        for one in distributions(asked)
        for file in one.files or ()
        if file.parts[0] not in ("..", "/", "__pycache__", "polyencoders")
    }


def files(asked: str) -> Iterable[Path]:
    """All files of those, compiled ones included."""
    for top in tops(asked):
        yield from (one for one in ([top] if top.is_file() else top.rglob("*")) if one.is_file())


def environment(folder: Path, asked: str) -> Path:
    """A copy of what a requirement brings."""
    folder.mkdir()
    for top in tops(asked):
        if top.is_dir():
            shutil.copytree(top, folder / top.name)
        elif top.exists():
            shutil.copy(top, folder / top.name)
    return folder


def forget(folders: Iterable[Path]) -> None:
    """Have the system drop what it keeps in memory of the files of folders."""
    os.sync()
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
