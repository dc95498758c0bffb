"""A Ray cluster: joining one by its address, and what is to be known of its machines. Knows nothing of indexes."""

from __future__ import annotations

import logging
import os
from typing import Any

from polyencoders.errors import ClusterError, MissingExtraError

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, which ends with this process."""

_HANDED_ON = ("TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HOME", "PYTHONPATH")
"""What workers are to see of this process's environment, where it is set."""


def the_ray() -> Any:
    """The package `ray`.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when it is imported: nothing is reported to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it every start of a worker warns
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    return ray


def connect(address: str) -> None:
    """Join a cluster, unless this process has joined one already.

    Parameters
    ----------
    address
        `host:port` of the head; `auto`: the cluster of this machine; `local`: a new one, which ends with this process.

    Raises
    ------
    ClusterError
        Nothing answers there.
    MissingExtraError
        Ray is not installed.
    """
    ray = the_ray()
    if ray.is_initialized():
        return
    # Threads that spin while they wait make PyTorch several times slower on small virtual machines.
    seen = {"OMP_WAIT_POLICY": "PASSIVE"} | {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    options: dict[str, Any] = {
        "namespace": "polyencoders",
        "runtime_env": {"env_vars": seen},
        "logging_level": logging.WARNING,
        "log_to_driver": False,
    }
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, include_dashboard=False, _node_ip_address="127.0.0.1", **options)
        else:
            ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        said = " ".join(str(error).split())
        raise ClusterError(
            f"no Ray cluster at {address!r} ({said[:200]}); `ray start --head` starts one, and the address is its "
            "HOST:PORT, `auto` for the cluster of this machine, or `local` for a new one of this machine alone"
        ) from error


def machines() -> list[dict[str, float]]:
    """The resources of each machine of the cluster that has processors to give: `CPU`, `GPU`, and others."""
    nodes = the_ray().nodes()
    return [dict(node["Resources"]) for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
