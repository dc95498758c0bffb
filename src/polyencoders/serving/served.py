"""What is being served, and how it is replaced while requests go on.

Knows engines and indexes; nothing of HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from polyencoders.encoders import Encoder, PairScorer, load
from polyencoders.encoders.protocols import is_encoder
from polyencoders.errors import ModelError
from polyencoders.serving.batching import BusyError
from polyencoders.serving.engine import Engine, Watch
from polyencoders.serving.library import Library
from polyencoders.serving.settings import Settings

if TYPE_CHECKING:
    from polyencoders.index import Index


OpenIndex = Callable[[Settings], "Index"]
"""The index that settings name, open, with its model."""


def open_here(settings: Settings) -> Index:
    """The index, on this machine."""
    from polyencoders.index import Index  # here: without an index no index engine is needed

    assert settings.index is not None
    return Index.open(settings.index, settings.model, settings.accept_documents_from)


def _unwatched(*batch: object) -> None:
    """What is not measured."""


class Served:
    """A model, perhaps its index, and models to compare with: loaded, replaced and closed together."""

    def __init__(self, engine: Engine, library: Library | None = None, others: list[Engine] | None = None) -> None:
        self.engine = engine
        self.library = library
        self.others = others or []
        self.searching = [
            other
            for other in self.others
            if library is not None and is_encoder(other.model) and library.has_vectors_of(other.model)
        ]
        """Of the others, those that can search the index: its vectors are those that they would make."""
        self.users = 0

    @property
    def whole(self) -> bool:
        """Whether all of its index can be searched now; so it is without one."""
        return self.library is None or self.library.whole

    @classmethod
    def load(
        cls,
        settings: Settings,
        before: Served | None = None,
        watch: Watch = _unwatched,
        open_index: OpenIndex = open_here,
    ) -> Served:
        """Load all of it.

        Raises
        ------
        ModelError, IndexingError
            Something cannot be loaded, or does not fit together.
        """
        library = None
        model: Encoder | PairScorer
        if settings.index is not None:
            index = open_index(settings)
            model = index.loaded_model()
            name = settings.model or (index.maker.name if index.maker is not None else None) or model.architecture
            library = Library(index)
        elif settings.model is not None:
            name = settings.model
            model = load(name)
        else:
            raise ModelError("nothing to serve: give a model, an index, or both")
        compared = [(load(path), called(path)) for path in settings.compare]  # before an engine has a thread
        engine = Engine(model, called(name), settings, before.engine if before is not None else None, watch)
        return cls(engine, library, [Engine(*other, settings) for other in compared])

    def close(self) -> None:
        """Let go of all of it."""
        if self.library is not None:
            self.library.close()
        for engine in (self.engine, *self.others):
            engine.close()


class Current:
    """What is served now: each request uses one `Served` from its beginning to its end, whatever comes after it.

    Parameters
    ----------
    settings
        What to load, and to load again.
    watch
        Called after each batch of the model.
    open_index
        How the index is opened, with its model; by default on this machine.

    Raises
    ------
    ModelError, IndexingError
        Something cannot be loaded, or does not fit together.
    """

    def __init__(self, settings: Settings, watch: Watch = _unwatched, open_index: OpenIndex = open_here) -> None:
        self._settings, self._watch, self._open_index = settings, watch, open_index
        self._served = Served.load(settings, watch=watch, open_index=open_index)
        self._retired: set[Served] = set()
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self.generation = 1
        """How many times something was loaded."""

    @contextmanager
    def use(self) -> Iterator[Served]:
        """What is served now; it is not closed before the block ends."""
        with self._lock:
            served = self._served
            served.users += 1
        try:
            yield served
        finally:
            with self._lock:
                served.users -= 1
            self._close_unused()

    def reload(self) -> None:
        """Load all of it again from where it was; requests go on with the old until the new is whole. Blocks.

        Raises
        ------
        ModelError
            It cannot be loaded: the old is served still.
        BusyError
            It is being loaded already.
        """
        if not self._reloading.acquire(blocking=False):
            raise BusyError(1)
        try:
            fresh = Served.load(self._settings, self._served, self._watch, self._open_index)
            with self._lock:
                self._retired.add(self._served)
                self._served = fresh
                self.generation += 1
        except Exception as error:  # half-written files have many ways to be wrong
            raise ModelError(f"not loaded again, the old is served still: {error}") from error
        finally:
            self._reloading.release()
        self._close_unused()

    def close(self) -> None:
        """Let go of everything, requests or not."""
        with self._lock:
            everything = [self._served, *self._retired]
            self._retired.clear()
        for served in everything:
            served.close()

    def _close_unused(self) -> None:
        with self._lock:
            unused = {served for served in self._retired if not served.users}
            self._retired -= unused
        for served in unused:
            served.close()


def called(name: str) -> str:
    """A model's name for clients: of a directory its last part, never the path.

    Examples
    --------
    >>> called("sentence-transformers/all-MiniLM-L6-v2")
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    path = Path(name)
    return path.resolve().name if path.exists() or path.is_absolute() else name
