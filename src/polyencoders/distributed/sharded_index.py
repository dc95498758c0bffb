"""An index whose slices lie in many processes, used as `Index` is.

Every search asks all shards for the same view, and merges what they found as one machine merges its segments.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyencoders.distributed.cluster import connect, the_ray
from polyencoders.distributed.replicas import Shards
from polyencoders.distributed.shard import Loaded, Part, StaleViewError
from polyencoders.encoders.words import Totals
from polyencoders.errors import ClusterError, IndexingError
from polyencoders.index.index import Index
from polyencoders.index.provenance import GivenModel
from polyencoders.index.searching import (
    QUERIES_AT_ONCE,
    Answer,
    Promises,
    Wanted,
    concluded,
    hits_of,
    joined,
    merged,
    shared_out,
)
from polyencoders.index.slices import View
from polyencoders.index.snapshot import BESIDE, LAID_OUT, Snapshot
from polyencoders.index.table import Table

PATIENCE = 60.0  # Seconds to wait for a lost shard

BEGINNING = 300.0  # Seconds within which all shards start and read their slices, or `patience` if that is longer


@dataclass(frozen=True)
class PartialAnswer(Answer):
    """What some shards found while others are lost. Never certified; `not_looked_at` is above 0."""


class ShardedSnapshot(Snapshot):
    """A view of the index whose vectors the shards hold."""

    def __init__(self, table: Table, view: View, loaded: list[Loaded]) -> None:
        self._begin(table)
        self.view = view
        self.documents = [one.documents for one in loaded]  # By shard
        self.size = sum(self.documents)
        self.beside = sum(one.beside for one in loaded)


class ShardedIndex(Index):
    """An index that shards on a Ray cluster search. Opened by `ShardedIndex.on`.

    Its folder has the same path on every machine of the cluster, or it lies in object storage. It does everything that
    `Index` does. Documents are added and deleted by this process.

    >>> index = ShardedIndex.on("local", "answers", shards=4)  # doctest: +SKIP
    >>> index.search("it does not start", k=1).certified  # doctest: +SKIP
    True
    """

    shards: Shards
    _owns_shards = False
    partial = False
    """Whether a search returns a `PartialAnswer` when a lost shard does not answer in time; otherwise it raises."""

    @classmethod
    def on(
        cls,
        cluster: str | Shards,
        path: str | os.PathLike[str],
        model: GivenModel | None = None,
        accept_documents_from: GivenModel | None = None,
        *,
        shards: int | None = None,
        replicas: int = 1,
        threads: int | None = None,
        patience: float = PATIENCE,
        partial: bool = False,
        storage_options: Mapping[str, str] | None = None,
    ) -> "ShardedIndex":
        """Open an index, and start its shards on a cluster.

        Parameters
        ----------
        cluster
            An address, as for `connect`; or shards of this index that another process started.
        path
            The index.
        model, accept_documents_from
            As for `Index.open`.
        shards
            How many slices; by default one for each machine.
        replicas
            Processes that hold the same slice.
        threads
            Threads of each process; by default as many as there are processors for.
        patience
            Seconds to wait for a lost shard.
        partial
            Whether an answer may then leave its documents out, and say so; by default a search raises.
        storage_options
            As for `Index.open`, for all machines; by default each machine's environment says.

        Raises
        ------
        ClusterError
            There is no cluster, or it is too small.
        MissingExtraError
            Ray is not installed.
        IndexingError, ModelError
            As for `Index.open`.
        ValueError
            shards, replicas or threads is below 1, or patience not above 0.
        """
        for name, number in (("shards", shards), ("replicas", replicas), ("threads", threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
        if not patience > 0:
            raise ValueError(f"patience is a number of seconds above 0, got {patience!r}")
        if isinstance(cluster, str):
            the_ray()  # raises before minutes are spent on a model
        index = cls.open(path, model, accept_documents_from, storage_options=storage_options)
        assert isinstance(index, cls)
        if isinstance(cluster, Shards):
            index.shards = cluster
        else:
            connect(cluster)
            index._owns_shards = True
            index.shards = Shards.start(index.path, shards, replicas, threads, patience, options=storage_options)
        index.partial = partial
        return index

    def refresh(self) -> None:
        """Search the latest version from now on, once every shard has loaded it.

        Raises a `ClusterError` where a lost shard did not come back in time. The version before is then still searched.
        """
        self._writer.refresh()
        held = self._snapshot
        if isinstance(held, ShardedSnapshot) and held.view == View.of(self._writer):
            self.shards.tend("load", held.view)
        else:
            self._snapshot = self._latest()

    @property
    def whole(self) -> bool:
        """Whether all slices could be searched at the last search or `refresh`."""
        return not self.shards.lost

    def close(self) -> None:
        """End the shards, unless another process started them."""
        if self._owns_shards:
            self.shards.close()

    def _look(self, table: Table, before: Snapshot | None = None) -> ShardedSnapshot:
        # Reading may take long; a machine that is lost is not waited for so long.
        patience = self.shards.patience
        if before is None or not self.shards.lost:
            patience = max(BEGINNING, patience)
        for _ in range(5):
            view = View.of(table)
            self.shards.tell("load", view)  # also the replicas that `ask` does not call
            try:
                loaded = self.shards.ask("load", view, patience=patience)
            except StaleViewError as error:
                if View.of(table) == view:  # it is the newest, and cannot be read
                    raise IndexingError(str(error)) from error
                continue
            self._check_complete(loaded)
            snapshot = ShardedSnapshot(table, view, loaded)
            if snapshot.size != len(table):
                raise IndexingError(
                    f"{self.path}: the shards hold {snapshot.size:,} documents of version {view.version}, and it has "
                    f"{len(table):,}; `polyencoders index compact` makes the layout anew"
                )
            return snapshot
        raise IndexingError(f"{self.path}: its layout is made anew again and again; try later")

    def _find(self, snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Answer]:
        # A few queries at a time, as on one machine: a shard that has many would seem lost.
        answers = []
        for start in range(0, len(codes), QUERIES_AT_ONCE):
            words = wanted.words.some(start, start + QUERIES_AT_ONCE) if wanted.words is not None else None
            few = codes[start : start + QUERIES_AT_ONCE]
            answers += self._find_few(snapshot, few, wanted._replace(words=words))
        return answers

    def _find_few(self, snapshot: Snapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Answer]:
        assert isinstance(snapshot, ShardedSnapshot)
        try:
            parts = self._ask_all(snapshot, codes, wanted)
        except StaleViewError:  # a shard that was started again can no longer read this view
            if self._snapshot is snapshot:
                self._snapshot = None
            snapshot = self.snapshot
            assert isinstance(snapshot, ShardedSnapshot)
            parts = self._ask_all(snapshot, codes, wanted)
        answered = [part for part in parts if part is not None]
        for part in answered:  # results of different versions are never merged
            if part.view != snapshot.view:
                raise IndexingError(f"{self.path}: a shard searched {part.view}, and was asked for {snapshot.view}")
        missed = None
        if None in parts:
            missed = sum(there for there, part in zip(snapshot.documents, parts, strict=True) if part is None)
        return [_answer(answered, query, wanted.k, snapshot.version, missed) for query in range(len(codes))]

    def _ask_all(self, snapshot: ShardedSnapshot, codes: NDArray[np.float64], wanted: Wanted) -> list[Part | None]:
        """Return what each shard found; None for a lost one, if partial answers are allowed."""
        if self.shards.ailing:
            self.shards.tend("load", snapshot.view, wait=0)
        lost: set[int] = set()
        numbers = None
        if wanted.words is not None:
            told = self.shards.ask("totals", snapshot.view, sorted(wanted.words.words))
            self._check_complete(told, self.partial)
            lost = {part for part, one in enumerate(told) if one is None}
            totals = Totals.sum(one for one in told if one is not None)
            wanted = wanted._replace(words=wanted.words._replace(totals=totals))
        half = codes.astype(np.float32)  # models make float32, which is half as much to send
        asked = half if (half == codes).all() else codes
        if wanted.fraction is not None:
            # A fast search looks at the most promising tiles of the whole layout, as on one machine. Without a filter
            # it is known beforehand how many documents they hold.
            most = wanted.to_look_at(snapshot.size - snapshot.beside)
            if most is not None or wanted.where is not None:
                told = self.shards.ask("promises", snapshot.view, asked, wanted, most if not wanted.where else None)
                self._check_complete(told, self.partial)
                lost |= {part for part, one in enumerate(told) if one is None}
                numbers = _numbers(told, len(codes), wanted)
        parts = self.shards.ask("search", snapshot.view, asked, wanted, numbers)
        self._check_complete(parts, self.partial)
        return [None if part in lost else one for part, one in enumerate(parts)]

    def _check_complete(self, answers: list[Any], partial: bool = False) -> None:
        """Raise if an answer is missing and may not be."""
        lost = [str(number) for number, one in enumerate(answers) if one is None]
        if lost and not partial:
            raise ClusterError(
                f"{len(lost)} of {len(self.shards)} shards did not answer within {self.shards.patience:g} s "
                f"(number {', '.join(lost)}): they are started again when the cluster has a machine for them"
            )


def _numbers(told: list[Promises | None], queries: int, wanted: Wanted) -> NDArray[np.int64] | None:
    """Return how many documents of its best tiles each shard is to search, `(parts, q)`; None: all."""
    number = wanted.to_look_at(sum(one.there for one in told if one is not None))
    if number is None:
        return None
    nothing = Promises(np.empty((queries, 0), dtype=np.float32), np.empty((queries, 0), dtype=np.uint8), 0)
    known = [one if one is not None else nothing for one in told]
    shares = [
        shared_out([one.ranks[query] for one in known], [one.sizes[query] for one in known], number)
        for query in range(queries)
    ]
    return np.array(shares).T


def _answer(parts: list[Part], query: int, k: int, version: int, missed: int | None) -> Answer:
    """What each shard found for a query, merged in the order in which one machine merges it."""
    segments = []
    for number in (LAID_OUT, BESIDE):
        some = [part.found[query][number] for part in parts if number in part.found[query]]
        if some:
            segments.append(concluded(joined(some, k), k))
    best = merged(segments, k)

    def read(segment: int, place: int) -> tuple[str, str | None, dict[str, Any]]:
        return next(part.records[segment, place] for part in parts if (segment, place) in part.records)

    hits = hits_of(best, read)
    if missed is not None:
        return PartialAnswer(hits, False, float("inf"), best.looked_at, version, missed)
    return Answer(hits, best.certified, best.bound, best.looked_at, version)
