"""An index that lies in many processes: opened, searched, changed and refreshed as `Index` is.

Every search asks all shards for one and the same view of the index and merges what they found as the segments of one
machine are merged. Knows indexes and shards; nothing of HTTP.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from polyencoders.distributed.cluster import connect
from polyencoders.distributed.shard import Loaded, Part, StaleViewError
from polyencoders.distributed.shards import Shards
from polyencoders.errors import ClusterError, IndexingError
from polyencoders.index.index import Answer, Index, IndexHit
from polyencoders.index.maker import Model
from polyencoders.index.searching import merged, rejoined
from polyencoders.index.share import BESIDE, LAID_OUT, View
from polyencoders.index.snapshot import Snapshot
from polyencoders.index.table import Table

PATIENCE = 60.0
"""Seconds for which a lost shard is waited for."""

BEGINNING = 300.0
"""Seconds until all shards have started and read their shares; more, where patience is more."""


@dataclass(frozen=True)
class PartialAnswer(Answer):
    """What the shards that answered found, while others are lost: never certified."""

    not_looked_at: int = 0
    """Documents of the lost shards, any of which may be better."""


class Spread(Snapshot):
    """A view of the index whose vectors the shards hold."""

    def __init__(self, table: Table, view: View, loaded: list[Loaded]) -> None:
        self.table = table
        self.view = view
        self.version = view.version
        self.layout = None
        self.segments = []
        self.documents = [one.documents for one in loaded]
        """By shard."""
        self.size = sum(self.documents)
        self.beside = sum(one.beside for one in loaded)


class ShardedIndex(Index):
    """An index that is searched by shards on a Ray cluster. Made by `ShardedIndex.on`.

    Its folder must be found under the same path by every machine of the cluster. Everything that `Index` does, it
    does; documents are added and deleted by this process.

    Examples
    --------
    >>> index = ShardedIndex.on("local", "answers", shards=4)  # doctest: +SKIP
    >>> index.search("it does not start", k=1).certified  # doctest: +SKIP
    True
    """

    shards: Shards
    partial = False
    """Whether a search that a lost shard does not answer in time is a `PartialAnswer`, and not an error."""

    @classmethod
    def on(
        cls,
        cluster: str | Shards,
        path: str | os.PathLike[str],
        model: Model | str | os.PathLike[str] | None = None,
        accept_documents_from: Model | str | os.PathLike[str] | None = None,
        *,
        shards: int | None = None,
        replicas: int = 1,
        threads: int | None = None,
        patience: float = PATIENCE,
        partial: bool = False,
    ) -> ShardedIndex:
        """Open an index, and spread it over a cluster.

        Parameters
        ----------
        cluster
            An address, as `connect` takes it; or shards of this index that another process started.
        path
            The index.
        model, accept_documents_from
            As for `Index.open`.
        shards
            Into how many shares it is cut; by default one for each machine.
        replicas
            Processes that hold the same share.
        threads
            With which each searches; by default as many as there are processors for.
        patience
            Seconds for which a lost shard is waited for.
        partial
            Whether an answer may then leave its documents out, and say so; by default that is an error.

        Raises
        ------
        ClusterError
            There is no cluster, or it is too small.
        IndexingError, ModelError
            As for `Index.open`.
        ValueError
            shards, replicas, threads or patience below what makes sense.
        """
        for name, number in (("shards", shards), ("replicas", replicas), ("threads", threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}")
        if not patience > 0:
            raise ValueError(f"patience is a number of seconds above 0, got {patience!r}")
        index = cls.open(path, model, accept_documents_from)
        assert isinstance(index, cls)
        if isinstance(cluster, Shards):
            index.shards = cluster
        else:
            connect(cluster)
            index.shards = Shards.start(index.path, shards, replicas, threads, patience)
        index.partial = partial
        return index

    def refresh(self) -> None:
        """Look at the latest version: every shard has it before it is searched.

        Raises
        ------
        ClusterError
            A shard is lost, and did not come back in time; the version before is looked at still.
        """
        self._writer.refresh()
        held = self._snapshot
        if not isinstance(held, Spread) or held.view != View.of(self._writer):
            self._snapshot = self._look(self._writer.at(self._writer.version))

    def close(self) -> None:
        """End the shards."""
        self.shards.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _look(self, table: Table, before: Snapshot | None = None) -> Spread:
        beginning = max(BEGINNING, self.shards.patience)
        for _ in range(5):
            view = View.of(table)
            self.shards.tell("load", view)  # replicas that are not asked below
            try:
                loaded = self.shards.ask("load", view, patience=self.shards.patience if before else beginning)
            except StaleViewError as error:
                if View.of(table) == view:  # it is the newest, and cannot be read
                    raise IndexingError(str(error)) from error
                continue
            if None in loaded:
                self._lost([number for number, one in enumerate(loaded) if one is None])
            spread = Spread(table, view, loaded)
            if spread.size != len(table):
                raise IndexingError(
                    f"{self.path}: the shards hold {spread.size:,} documents of version {view.version}, and it has "
                    f"{len(table):,}; `polyencoders index compact` makes the layout anew"
                )
            return spread
        raise IndexingError(f"{self.path}: its layout is made anew again and again; try later")

    def _find(
        self,
        snapshot: Snapshot,
        codes: NDArray[np.float64],
        k: int,
        temperature: float,
        where: str | None,
        share: float | None,
        least: int,
    ) -> list[Answer]:
        least_of_each = -(-least // len(self.shards))
        for last in (False, True):
            assert isinstance(snapshot, Spread)
            try:
                parts = self.shards.ask("search", snapshot.view, codes, k, temperature, where, share, least_of_each)
                break
            except StaleViewError:
                if last:
                    raise
                self._snapshot = None  # a shard that was started again cannot read it any more
                self.refresh()
                snapshot = self.snapshot
        assert isinstance(snapshot, Spread)
        answered = [part for part in parts if part is not None]
        lost = [number for number, part in enumerate(parts) if part is None]
        if lost and not self.partial:
            self._lost(lost)
        for part in answered:  # what shards say of different versions is never joined
            if part.view != snapshot.view:
                raise IndexingError(f"{self.path}: a shard searched {part.view}, and was asked for {snapshot.view}")
        missed = sum(snapshot.documents[number] for number in lost)
        return [
            _answer(answered, query, k, share is None, snapshot.version, missed if lost else None)
            for query in range(len(codes))
        ]

    def _lost(self, lost: list[int]) -> NoReturn:
        raise ClusterError(
            f"{len(lost)} of {len(self.shards)} shards did not answer within {self.shards.patience:g} s "
            f"(number {', '.join(map(str, lost))}): they are started again when the cluster has a machine for them"
        )


def _answer(parts: list[Part], query: int, k: int, exact: bool, version: int, missed: int | None) -> Answer:
    """What each shard found for a query, merged in the order in which one machine merges it."""
    segments = []
    for number in (LAID_OUT, BESIDE):
        some = [part.found[query][number] for part in parts if number in part.found[query]]
        if some:
            segments.append(rejoined(some, k, exact))
    best = merged(segments, k)
    hits = []
    for score, segment, place in zip(best.scores.tolist(), best.segments.tolist(), best.places.tolist(), strict=True):
        id, text, metadata = next(part.records[segment, place] for part in parts if (segment, place) in part.records)
        hits.append(IndexHit(id, score, text, metadata))
    hits.sort(key=lambda hit: (-hit.score, hit.id))
    if missed is not None:
        return PartialAnswer(hits, False, float("inf"), best.looked_at, version, missed)
    return Answer(hits, best.certified, best.bound, best.looked_at, version)
