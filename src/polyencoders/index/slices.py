"""A slice of one version of an index: some of its tiles, and some of the documents beside the layout.

Several processes hold all slices; each document is in exactly one, and keeps the place that it has in the whole.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyencoders.index import searching
from polyencoders.index.documents import Record
from polyencoders.index.layout import Layout, latest, local
from polyencoders.index.searching import Found, Promises, Wanted
from polyencoders.index.snapshot import LAID_OUT, Snapshot, cut
from polyencoders.index.table import Table
from polyencoders.scoring.selection import TILE


class View(NamedTuple):
    """What is cut into slices. Only slices of the same view fit together."""

    version: int  # The version of the table
    layout: str | None  # The name of the layout; None: there is none

    @classmethod
    def of(cls, table: Table) -> "View":
        """A version of the table with the newest layout."""
        return cls(table.version, latest(table.storage))


class Slice(Snapshot):
    """The part with the number `part`, from 0, of the `parts` into which a view is cut, with its vectors ready.

    `before` is a part read earlier. Raises OSError or ValueError if the layout is not there any more, or damaged.
    """

    def __init__(self, table: Table, view: View, part: int, parts: int, before: "Slice | None" = None) -> None:
        self.view = view
        held = before.layout if before is not None and view.layout is not None else None
        if view.layout is not None:
            folder = local(table.storage, view.layout)
            tiles = cut(len(np.load(folder / "row_ids.npy", mmap_mode="r")) // TILE, part, parts)
            if held is None or held.folder != folder or held.held != tiles:
                held = Layout(folder, tiles)
        super().__init__(table, held, part, parts)

    def promises(self, codes: NDArray[np.float64], wanted: Wanted, most: int | None = None) -> Promises:
        """How promising its tiles are to each query; see `searching.promises`."""
        if self.layout is None:
            nothing = np.empty((len(codes), 0))
            return Promises(nothing.astype(np.float32), nothing.astype(np.uint8), 0)
        return searching.promises(self.segments[0], self.selections(wanted.where)[0], codes, wanted.words, most)

    def find(
        self, codes: NDArray[np.float64], wanted: Wanted, number: NDArray[np.int64] | None = None
    ) -> list[dict[int, Found]]:
        """What `searching.find` finds by query and segment, with places as in the whole, yet to be joined.

        `number`, `(q,)`, says how many documents of its most promising tiles to look at; None: all.
        """
        numbers = [number if segment.number == LAID_OUT else None for segment in self.segments]
        return [
            {
                segment.number: found._replace(
                    segments=np.full(len(found.places), segment.number), places=found.places + segment.first
                )
                for segment, found in zip(self.segments, parts, strict=True)
            }
            for parts in searching.in_segments(self, codes, wanted, numbers)
        ]

    def read_in_the_whole(self, number: int, place: int) -> Record:
        """Id, text and metadata of a document that `find` gave."""
        held = next(i for i, segment in enumerate(self.segments) if segment.number == number)
        return self.read(held, place - self.segments[held].first)
