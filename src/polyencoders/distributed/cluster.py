"""Joins a Ray cluster by its address, and looks up its machines."""

import logging
import os
import socket
import sys
from typing import Any

from polyencoders.errors import ClusterError, MissingExtraError
from polyencoders.scoring import set_threads

LOCAL = "local"  # In place of an address: a cluster of this machine alone, which ends with this process

_PASSED_ON = ("TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HOME", "PYTHONPATH")
"""Environment variables that workers get from this process."""


def the_ray() -> Any:
    """Return the package `ray`, or raise `MissingExtraError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read on import: nothing is reported to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it every worker that starts warns
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    return ray


def connect(address: str) -> None:
    """Join a cluster, unless this process has joined one already.

    The address is `host:port` of the head; `auto`: the cluster of this machine; `local`: a new one, which ends with
    this process. Raises a `ClusterError` where no cluster answers, a `MissingExtraError` without Ray.
    """
    ray = the_ray()
    if ray.is_initialized():
        return
    # Threads that spin while they wait make PyTorch several times slower on small virtual machines.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    options: dict[str, Any] = {
        "namespace": "polyencoders",
        "runtime_env": {"env_vars": environment},
        "logging_level": logging.WARNING,
        "log_to_driver": False,
    }
    if address == LOCAL:
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    host, _, port = address.rpartition(":")
    if host in ("127.0.0.1", "localhost", "[::1]"):
        host = ray.util.get_node_ip_address()  # this is how Ray reads it
    try:
        if port.isdecimal() and "/" not in host:  # HOST:PORT, for which Ray would wait minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        ray.init(address=address, **options)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no Ray cluster at {address!r} ({one_line(error, 200)}); `ray start --head` starts one, and the address "
            "is its HOST:PORT, `auto` for the cluster of this machine, or `local` for a new one of this machine alone"
        ) from error


def machines() -> list[dict[str, float]]:
    """Return the resources (`CPU`, `GPU`, ...) of each machine of the cluster that has a processor to give."""
    nodes = the_ray().nodes()
    return [dict(node["Resources"]) for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def use_threads(number: int) -> None:
    """Compute with so many threads in this process: in searches, and in models loaded now or later."""
    os.environ["OMP_NUM_THREADS"] = str(number)
    set_threads(number)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(number)


def one_line(error: object, longest: int) -> str:
    """Return the message of an error in one line, cut to a length."""
    return " ".join(str(error).split())[:longest]
