"""A process of `polyencoders serve`, for benchmarks and tests of the server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from ports import free_ports

processes = multiprocessing.get_context("forkserver")
# Imports take most of the time in which a server starts. LanceDB's threads do not survive a fork: each process imports
# LanceDB itself, but not what it depends on.
processes.set_forkserver_preload(
    ["polyencoders.serving.run", "polyencoders.index", "polyencoders.models.loading", "pyarrow", "lance_namespace"]
)


class ServerProcess:
    """A server in a process of its own.

    Parameters
    ----------
    arguments
        Arguments of `polyencoders serve`, without the port.
    log
        The file to which its output is appended.
    page
        Whether the server has a page.
    forked
        True: forked from a process that has imported everything, which is quicker. False: `python -m polyencoders`.

    Attributes
    ----------
    url, port, pid
        Where it listens, and its process.
    ready_after
        The seconds from its start until it was ready, once `wait_until_ready` has returned.
    """

    def __init__(self, arguments: list[Any], log: Path, forked: bool = False, page: bool = False) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._started = time.monotonic()
        self._began = log.stat().st_size if log.exists() else 0
        command = ["serve", *map(str, arguments), "--page" if page else "--no-page", "--port", str(self.port)]
        self._process: Any
        if forked:
            self._process = processes.Process(target=_run, args=(command, str(log)))
            self._process.start()
        else:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            whole = [sys.executable, "-m", "polyencoders", *command]
            with log.open("ab") as file:
                self._process = subprocess.Popen(whole, stdout=file, stderr=file, env=environment)
        self.pid: int = self._process.pid

    def wait_until_ready(self, seconds: float = 120) -> ServerProcess:
        ends = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.TransportError):
                # `verify=False`: reading certificates, which HTTP does not use, takes ten times as long as asking.
                if httpx.get(f"{self.url}/ready", verify=False).status_code == 200:
                    self.ready_after = time.monotonic() - self._started
                    return self
            if self.exit_code() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the server did not start: {self.output()[-2000:]}")
            time.sleep(0.02)

    def output(self) -> str:
        return self.log.read_bytes()[self._began :].decode(errors="replace")

    def errors(self) -> list[str]:
        """Log lines of level ERROR and above."""
        return [line[:2000] for line in self.output().splitlines() if re.search(r'"level": "(ERROR|CRITICAL)"', line)]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def exit_code(self, wait: float = 0) -> int | None:
        """The exit code, or None if the process still runs after `wait` seconds."""
        if isinstance(self._process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(wait) if wait else self._process.poll()
            return None
        self._process.join(wait)
        code: int | None = self._process.exitcode
        return code

    def kill(self) -> None:
        if self.exit_code() is None:
            self.signal(signal.SIGKILL)
            self.exit_code(30)

    def metric(self, name: str) -> float:
        """The value of a metric of /metrics."""
        found = re.search(rf"^{name} (\S+)$", httpx.get(f"{self.url}/metrics", verify=False).text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


def _run(arguments: list[str], log: str) -> None:
    """What `python -m polyencoders` does."""
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["polyencoders", *arguments]
    from polyencoders.cli import main

    main()


@contextlib.contextmanager
def running(*arguments: Any, log: Path, **options: bool) -> Iterator[ServerProcess]:
    """A `ServerProcess` that is ready, until the block ends."""
    server = ServerProcess(list(arguments), log, **options)
    try:
        yield server.wait_until_ready()
    finally:
        server.kill()
