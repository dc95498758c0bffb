"""All shards of an index, and questions put to each of them: one that is lost is asked again when it is back.

Knows Ray's actors and their losses; nothing of what is asked.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from polyencoders.distributed.cluster import machines, the_ray
from polyencoders.errors import ClusterError

ANOTHER = 2.0
"""Seconds without an answer after which a replica is asked as well."""
_PAUSE = 0.05
_AT_ONCE = 4
"""Calls that a shard works on at the same time: a search need not wait for the loading of a newer version."""


class Shards:
    """Handles of the shards; they can be sent to other processes of the cluster.

    Parameters
    ----------
    replicas
        Of each share the actors that hold it.
    patience
        Seconds for which a lost shard is waited for.
    """

    def __init__(self, replicas: list[list[Any]], patience: float) -> None:
        self.replicas = replicas
        self.patience = patience
        self._turn = itertools.count()

    @classmethod
    def start(cls, path: Path, shards: int | None, replicas: int, threads: int | None, patience: float) -> Shards:
        """New ones, which end with this process.

        Parameters
        ----------
        path
            The index, where every machine of the cluster finds it.
        shards
            Shares; None: one for each machine.
        replicas
            Of each share.
        threads
            Of each shard; None: as many as there are processors for.
        patience
            Seconds for which a lost shard is waited for.

        Raises
        ------
        ClusterError
            The cluster has too few processors.
        """
        ray = the_ray()
        from polyencoders.distributed.shard import Shard

        there = machines()
        processors = int(sum(machine["CPU"] for machine in there))
        shards = max(1, len(there) // replicas) if shards is None else shards
        if threads is None:
            threads = max(1, (processors - 1) // (shards * replicas))
        if shards * replicas * threads > processors:
            raise ClusterError(
                f"{shards} shards, {replicas} of each and {threads} threads in each, "
                f"want {shards * replicas * threads} processors, and the cluster has {processors}"
            )
        actor = ray.remote(Shard).options(
            num_cpus=threads, max_restarts=-1, max_concurrency=_AT_ONCE, scheduling_strategy="SPREAD"
        )
        where = str(path.resolve())
        return cls(
            [[actor.remote(where, part, shards, threads) for _ in range(replicas)] for part in range(shards)], patience
        )

    def __len__(self) -> int:
        return len(self.replicas)

    def __reduce__(self) -> Any:
        return Shards, (self.replicas, self.patience)

    def tell(self, method: str, *arguments: Any) -> None:
        """Call a method of every shard, every replica of it, and wait for none."""
        for actor in itertools.chain(*self.replicas):
            getattr(actor, method).remote(*arguments)

    def ask(self, method: str, *arguments: Any, patience: float | None = None) -> list[Any]:
        """What a method returns, by share; None where no replica answered in time, or in another time.

        Raises
        ------
        Exception
            What the method raised.
        """
        ray = the_ray()
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        answers: list[Any] = [None] * len(self)
        missing = set(range(len(self)))
        pending: dict[Any, int] = {}

        def send(part: int) -> None:
            actors = self.replicas[part]
            pending[getattr(actors[next(self._turn) % len(actors)], method).remote(*arguments)] = part

        for part in sorted(missing):
            send(part)
        while missing and (left := deadline - time.monotonic()) > 0:
            done, _ = ray.wait(list(pending), num_returns=1, timeout=min(left, ANOTHER)) if pending else ([], [])
            lost = [] if done else [part for part in missing if len(self.replicas[part]) > 1]
            for reference in done:
                part = pending.pop(reference)
                try:
                    answer = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, Exception) else error) from None
                except ray.exceptions.RayError:  # its process, or its machine, is gone, and is being replaced
                    lost.append(part)
                    time.sleep(_PAUSE)
                    continue
                if part in missing:
                    answers[part] = answer
                    missing.discard(part)
            for part in set(lost) & missing:
                send(part)
        return answers

    def close(self) -> None:
        """End them."""
        ray = the_ray()
        if ray.is_initialized():
            for actor in itertools.chain(*self.replicas):
                ray.kill(actor)
