"""Starts the shards of an index, each in one or more replicas, and calls them; lost ones are called again."""

import itertools
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyencoders.distributed.cluster import machines, the_ray
from polyencoders.errors import ClusterError

ANOTHER = 2.0  # Seconds without an answer after which another replica is called as well, until all are
ROOM = 20.0  # Seconds to wait for processors that others use
_PAUSE = 0.05
_AT_ONCE = 4  # Calls that a shard runs at the same time: a search need not wait while a newer version is loaded


class Shards:
    """Handles of an index's shards. They can be sent to other processes of the cluster."""

    def __init__(self, replicas: list[list[Any]], patience: float) -> None:
        self.replicas = replicas  # By slice: the actors that hold it
        self.patience = patience  # Seconds to wait for a lost shard
        self._turn = itertools.count()
        self._down: set[Any] = set()  # Actors that are lost, until they do what `tend` asks
        self._slow: set[Any] = set()  # Actors that did not answer in time, until they do
        self._tended: dict[Any, Any] = {}
        self._tending = threading.Lock()

    @classmethod
    def start(
        cls,
        place: Path | str,
        shards: int | None,
        replicas: int,
        threads: int | None,
        patience: float,
        spare: int = 0,
        options: Mapping[str, str] | None = None,
    ) -> "Shards":
        """Start shards, which end with this process; the parameters are those of `ShardedIndex.on`.

        `spare` processors of the cluster are left free. Raises `ClusterError` if too few processors are there or free.
        """
        ray = the_ray()
        from polyencoders.distributed.shard import Shard

        there = [int(machine["CPU"]) for machine in machines()]
        processors = sum(there) - spare
        shards = max(1, len(there) // replicas) if shards is None else shards
        wanted = shards * replicas
        if threads is None:
            most = (processors - (not spare)) // wanted  # one is for the process that asks
            threads = next((number for number in range(most, 1, -1) if _room(there, number) >= wanted), 1)
        if wanted * threads > processors or _room(there, threads) < wanted:
            raise ClusterError(
                f"{shards} shards, {replicas} of each and {threads} threads in each, want {wanted * threads} "
                f"processors{f' besides {spare} for the server' if spare else ''}, and the cluster has {sum(there)}, "
                f"{max(there, default=0)} in its largest machine"
            )
        until = time.monotonic() + ROOM
        while (free := int(ray.available_resources().get("CPU", 0))) < wanted * threads + spare:
            if time.monotonic() > until:
                raise ClusterError(
                    f"{wanted * threads + spare} processors are wanted, and of the cluster's {sum(there)} only {free} "
                    "are free: others use the rest"
                )
            time.sleep(_PAUSE)
        actor = ray.remote(Shard).options(
            num_cpus=threads, max_restarts=-1, max_concurrency=_AT_ONCE, scheduling_strategy="SPREAD"
        )
        where = str(place.resolve()) if isinstance(place, Path) else place
        parts = range(shards)
        return cls(
            [[actor.remote(where, options, part, shards, threads) for _ in range(replicas)] for part in parts], patience
        )

    def __len__(self) -> int:
        return len(self.replicas)

    def __reduce__(self) -> Any:
        return Shards, (self.replicas, self.patience)

    @property
    def _all(self) -> list[Any]:
        return list(itertools.chain(*self.replicas))

    @property
    def lost(self) -> list[int]:
        """Numbers of the slices whose replicas are all lost."""
        return [part for part, actors in enumerate(self.replicas) if self._down.issuperset(actors)]

    @property
    def ailing(self) -> bool:
        """Whether a replica is lost, or was slow to answer its last call."""
        return bool(self._down or self._slow)

    def tend(self, method: str, *arguments: Any, wait: float = 1.0) -> None:
        """Call a method of every replica and note which can answer, waiting so many seconds at most.

        A replica that was started again loads its slice this way, before a search asks for it.
        """
        ray = the_ray()
        with self._tending:
            for actor in self._all:
                if actor not in self._tended:
                    self._tended[actor] = getattr(actor, method).remote(*arguments)
            done, _ = ray.wait(list(self._tended.values()), num_returns=len(self._tended), timeout=wait)
            for actor, reference in list(self._tended.items()):
                if reference in done:
                    del self._tended[actor]
                    try:
                        ray.get(reference)
                        self._well(actor)
                    except ray.exceptions.RayError:
                        self._down.add(actor)

    def tell(self, method: str, *arguments: Any) -> None:
        """Call a method of every replica, and wait for none."""
        for actor in self._all:
            getattr(actor, method).remote(*arguments)

    def ask(self, method: str, *arguments: Any, patience: float | None = None) -> list[Any]:
        """Call a method of one replica of each slice; return the results, None where none answered in time.

        What the method raises is raised here.
        """
        ray = the_ray()
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        answers: list[Any] = [None] * len(self)
        missing = set(range(len(self)))
        pending: dict[Any, tuple[int, Any]] = {}

        def others(part: int) -> list[Any]:
            """Replicas that have not been asked, or have failed since."""
            waiting = [actor for number, actor in pending.values() if number == part]
            return [one for one in self.replicas[part] if one not in waiting]

        def send(part: int) -> None:
            actors = others(part) or self.replicas[part]
            actors = [one for one in actors if one not in self._down and one not in self._slow] or actors
            actor = actors[next(self._turn) % len(actors)]
            pending[getattr(actor, method).remote(*arguments)] = part, actor

        for part in sorted(missing):
            send(part)
        while missing and (left := deadline - time.monotonic()) > 0:
            done, _ = ray.wait(list(pending), num_returns=1, timeout=min(left, ANOTHER)) if pending else ([], [])
            lost = []
            if not done:
                late = [part for part in missing if len(self.replicas[part]) > 1]
                self._slow.update(actor for part, actor in pending.values() if part in late)
                lost = [part for part in late if others(part)]  # each is asked once: more calls would be in its way
            for reference in done:
                part, actor = pending.pop(reference)
                try:
                    answer = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, Exception) else error) from None
                except ray.exceptions.RayError:  # its process or its machine is lost, and Ray replaces it
                    self._down.add(actor)
                    lost.append(part)
                    time.sleep(_PAUSE)
                    continue
                self._well(actor)
                if part in missing:
                    answers[part] = answer
                    missing.discard(part)
            for part in set(lost) & missing:
                send(part)
        self._down.update(actor for part, actor in pending.values() if part in missing)  # they may hang
        return answers

    def _well(self, actor: Any) -> None:
        self._down.discard(actor)
        self._slow.discard(actor)

    def close(self) -> None:
        """End the shards."""
        ray = the_ray()
        if ray.is_initialized():
            for actor in self._all:
                ray.kill(actor)


def _room(machines: list[int], threads: int) -> int:
    """Return how many processes of so many threads fit on machines with so many processors.

    >>> _room([4, 2], 3)
    1
    """
    return sum(processors // threads for processors in machines)
