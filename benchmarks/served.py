"""A server started through the command line, and what is known of it; for attacks on it, and for their tests."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

processes = multiprocessing.get_context("forkserver")
# Imports take most of a start; LanceDB, whose threads do not survive a fork, is imported by each process itself, but
# what it imports is not.
processes.set_forkserver_preload(
    ["polyencoders.serving.run", "polyencoders.index", "polyencoders.models.loading", "pyarrow", "lance_namespace"]
)


def command(arguments: list[Any], port: int) -> list[str]:
    return ["serve", *map(str, arguments), "--no-page", "--port", str(port)]


def _forked(arguments: list[str], log: str) -> None:
    """What `python -m polyencoders` does."""
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["polyencoders", *arguments]
    from polyencoders.cli import main

    main()


class Served:
    """A server's process, its address, and its log.

    Parameters
    ----------
    arguments
        Of `polyencoders serve`, besides the port.
    log
        A file to which its output goes.
    forked
        Whether it is forked from a process that has imported everything, which is quicker, or is
        `python -m polyencoders`.
    """

    def __init__(self, arguments: list[Any], log: Path, forked: bool = False) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._began = log.stat().st_size if log.exists() else 0
        self._process: Any
        if forked:
            self._process = processes.Process(target=_forked, args=(command(arguments, self.port), str(log)))
            self._process.start()
        else:
            whole = [sys.executable, "-m", "polyencoders", *command(arguments, self.port)]
            paths = os.pathsep.join(filter(None, sys.path))
            with log.open("ab") as file:
                self._process = subprocess.Popen(
                    whole, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": paths}
                )
        self.pid: int = self._process.pid

    def wait_until_ready(self, seconds: float = 120) -> Served:
        ends = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return self
            if self.ended() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the server did not begin: {self.said()[-2000:]}")
            time.sleep(0.02)

    def said(self) -> str:
        """What it wrote."""
        return self.log.read_bytes()[self._began :].decode(errors="replace")

    def errors(self) -> list[str]:
        """What it wrote of things that went wrong in itself."""
        return [line[:2000] for line in self.said().splitlines() if re.search(r'"level": "(ERROR|CRITICAL)"', line)]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self, seconds: float = 0) -> int | None:
        """The exit code, or None if it still runs; waits so long."""
        if isinstance(self._process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(seconds) if seconds else self._process.poll()
            return None
        self._process.join(seconds)
        code: int | None = self._process.exitcode
        return code

    def kill(self) -> None:
        if self.ended() is None:
            self.signal(signal.SIGKILL)
            self.ended(30)

    def figure(self, name: str) -> float:
        """Of /metrics."""
        found = re.search(rf"^{name} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


@contextlib.contextmanager
def served(*arguments: Any, log: Path, **more: Any) -> Iterator[Served]:
    """A server that is ready, until the block ends."""
    one = Served(list(arguments), log, **more)
    try:
        yield one.wait_until_ready()
    finally:
        one.kill()
