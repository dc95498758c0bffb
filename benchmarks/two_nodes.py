"""Two Ray nodes on one machine: a head and a worker, each in its own network namespace if possible."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from ports import free_ports

_PORT = 6379
_PATIENCE = 120.0


class TwoNodes:
    """A Ray cluster of a head and a worker, while the block of `with` runs.

    Network namespaces need root and `ip`; without them, both nodes are on the loopback device.

    Parameters
    ----------
    processors
        The number of processors of each node.
    alone
        Whether to start no worker.

    Attributes
    ----------
    address
        The address of the head.
    namespaces
        Whether the nodes have network namespaces.
    """

    def __init__(self, processors: int = 1, alone: bool = False) -> None:
        self.processors = processors
        self.alone = alone
        self.namespaces = False
        self._names = [f"ray{os.getpid()}{side}" for side in "ab"]
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> TwoNodes:
        # The paths of sockets in it must be short.
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        self.namespaces = self._make_namespaces()
        head, worker = ("10.77.0.1", "10.77.0.2") if self.namespaces else ("127.0.0.1", "127.0.0.1")
        port = _PORT if self.namespaces else free_ports(1)[0]
        self.address = f"{head}:{port}"
        try:
            self._start(0, head, "--head", "--port", str(port), "--include-dashboard", "false")
            self._wait(1)
            if not self.alone:
                self._start(1, worker, "--address", self.address)
                self._wait(2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        for node in self._nodes:
            _kill_all(node.pid)
            node.wait()
        if self.namespaces:
            for name in self._names:
                for pid in _output("ip", "netns", "pids", name).split():
                    os.kill(int(pid), signal.SIGKILL)
                subprocess.run(("ip", "netns", "del", name), check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, command: Sequence[str], **more: Any) -> subprocess.Popen[str]:
        """Start a process beside the head; its `stdout` is text."""
        return subprocess.Popen(
            [*self._within(0), *command], env=_environment(), text=True, stdout=subprocess.PIPE, **more
        )

    def kill_worker(self) -> None:
        """Kill all processes of the worker at once, as if its machine had lost power."""
        _kill_all(self._nodes[1].pid)

    def _start(self, side: int, ip: str, *arguments: str) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [
            *(ray, "start", "--block", "--disable-usage-stats", "--node-ip-address", ip, "--temp-dir", self._folder),
            *("--num-cpus", str(self.processors), "--num-gpus", "0", "--object-store-memory", "500000000"),
            *("--include-log-monitor", "false", *arguments),
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._nodes.append(subprocess.Popen([*self._within(side), *command], env=_environment(), **quiet))

    def _wait(self, number: int) -> None:
        """Wait until the cluster has so many nodes."""
        code = (
            "import sys, ray\n"
            "ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
            "sys.exit(sum(node['Alive'] for node in ray.nodes()) != int(sys.argv[2]))"
        )
        ends = time.monotonic() + _PATIENCE
        while time.monotonic() < ends:
            command = [*self._within(0), sys.executable, "-c", code, self.address, str(number)]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            if subprocess.run(command, env=_environment(), check=False, **quiet).returncode == 0:
                return
        raise SystemExit(f"the Ray cluster at {self.address} does not have {number} nodes after {_PATIENCE:.0f} s")

    def _within(self, side: int) -> list[str]:
        return ["ip", "netns", "exec", self._names[side]] if self.namespaces else []

    def _make_namespaces(self) -> bool:
        """Make two namespaces with a cable between them; False if that is not possible."""
        first, second = self._names
        cable = [f"{name}v" for name in self._names]
        commands = [
            f"ip netns add {first}",
            f"ip netns add {second}",
            f"ip link add {cable[0]} type veth peer name {cable[1]}",
            *(f"ip link set {end} netns {name}" for end, name in zip(cable, self._names, strict=True)),
            *(
                f"ip netns exec {name} ip {what}"
                for name, end, ip in zip(self._names, cable, ("10.77.0.1", "10.77.0.2"), strict=True)
                for what in (f"addr add {ip}/24 dev {end}", f"link set {end} up", "link set lo up")
            ),
        ]
        if shutil.which("ip") is None:
            return False
        for command in commands:
            if subprocess.run(command.split(), capture_output=True, check=False).returncode:
                for name in self._names:
                    subprocess.run(("ip", "netns", "del", name), capture_output=True, check=False)
                return False
        return True


def _environment() -> dict[str, str]:
    # No token of the user is needed, and a lost idle node is noticed soon.
    added = {"RAY_AUTH_MODE": "disabled", "RAY_health_check_period_ms": "1000"}
    return {**os.environ, **added, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _kill_all(pid: int) -> None:
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
