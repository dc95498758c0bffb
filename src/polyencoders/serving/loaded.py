"""The model and the index that are loaded, and their replacement while requests go on."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from polyencoders.encoders import Encoder, PairScorer, Words, load
from polyencoders.encoders.calibration import Calibration
from polyencoders.encoders.protocols import is_encoder
from polyencoders.errors import ModelError
from polyencoders.index import Index
from polyencoders.serving.batching import BusyError, Watch, ignore
from polyencoders.serving.engine import Engine
from polyencoders.serving.library import Library
from polyencoders.serving.reranking import Reranking
from polyencoders.serving.settings import Settings

logger = logging.getLogger("polyencoders.serving")

OpenIndex = Callable[[Settings], Index]  # Opens the index that settings name, with its model


def open_here(settings: Settings) -> Index:
    """Open the index on this machine."""
    assert settings.index is not None
    return Index.open(settings.index, settings.model, settings.accept_documents_from)


class Served:
    """A model, perhaps its index, and models to compare with, which are loaded, replaced and closed together."""

    def __init__(
        self,
        engine: Engine,
        library: Library | None = None,
        others: list[Engine] | None = None,
        reranking: Reranking | None = None,
        words: bool | Words | None = None,
    ) -> None:
        self.engine = engine
        self.library = library
        self.reranking = reranking
        self.words = words  # What words count where a request does not say; None: as the index was tuned
        self.others = others or []
        maker = library.index.maker if library is not None else None
        self.searching = [
            other
            for other in self.others
            if maker and is_encoder(other.model) and other.model.fingerprints.documents == maker.documents
        ]
        """The others that can search the index, as they would make the same document vectors."""
        self.users = 0
        self.since = int(time.time())  # When it was loaded

    @property
    def whole(self) -> bool:
        """Whether all of its index can be searched now; true without an index."""
        return self.library is None or self.library.index.whole

    @classmethod
    def load(
        cls,
        settings: Settings,
        before: "Served | None" = None,
        watch: Watch = ignore,
        open_index: OpenIndex = open_here,
    ) -> "Served":
        """Load what settings name."""
        library = reranker = None
        model: Encoder | PairScorer
        if settings.index is not None:
            index = open_index(settings)
            model = index.loaded_model()
            name = settings.model or (index.maker.name if index.maker is not None else None) or model.architecture
            library = Library(index)
            how = (settings.rerank_top, settings.rerank_weight, settings.rerank_budget)
            reranker = index.reranker(settings.rerank, *how)
        elif settings.model is not None:
            name = settings.model
            model = load(name)
        else:
            raise ModelError("nothing to serve: give a model, an index, or both")
        compared = [(load(path), called(path)) for path in settings.compare]  # before an engine has a thread
        calibration = Calibration.read(name)
        with ExitStack() as undone:  # what has a thread ends it if another part cannot be made
            engine = Engine(model, called(name), settings, before.engine if before is not None else None, watch)
            undone.callback(engine.close)
            engine.calibration = calibration
            reranking = None
            if reranker is not None:
                engine_of_pairs = Engine(reranker.model, called(reranker.name), settings, watch=watch)
                undone.callback(engine_of_pairs.close)
                reranking = Reranking(reranker, engine_of_pairs)
            others = []
            for other in compared:
                others.append(Engine(*other, settings))
                undone.callback(others[-1].close)
            served = cls(engine, library, others, reranking, settings.words)
            undone.pop_all()
        return served

    def close(self) -> None:
        """Release everything."""
        if self.library is not None:
            self.library.close()
        for part in (self.engine, *self.others, self.reranking):
            if part is not None:
                part.close()


class Current:
    """What is served now. Each request uses one `Served` from beginning to end, even if it is replaced meanwhile."""

    def __init__(self, settings: Settings, watch: Watch = ignore, open_index: OpenIndex = open_here) -> None:
        self._settings, self._watch, self._open_index = settings, watch, open_index
        self._served = Served.load(settings, watch=watch, open_index=open_index)
        self._retired: set[Served] = set()
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self.generation = 1  # How many times something was loaded

    @contextmanager
    def use(self) -> Iterator[Served]:
        """Yield what is served now; it is not closed before the block ends."""
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
        """Load everything again. Requests use the old until the new is complete, and if it cannot be loaded. Blocks."""
        if not self._reloading.acquire(blocking=False):
            raise BusyError(1)
        try:
            fresh = Served.load(self._settings, self._served, self._watch, self._open_index)
            if fresh.library is not None:
                try:
                    fresh.library.refresh()  # what was added while it was loaded
                except BaseException:
                    fresh.close()
                    raise
            with self._lock:
                self._retired.add(self._served)
                self._served = fresh
                self.generation += 1
        except Exception as error:  # files that are half written fail in many ways
            raise ModelError(f"not loaded again, the old is served still: {error}") from error
        finally:
            self._reloading.release()
        if fresh.library is not None:
            try:
                fresh.library.refresh()  # what was added just before it was served
            except Exception as error:  # it is served all the same, and looked at again soon
                logger.warning("the index could not be looked at: %s", error)
        self._close_unused()

    def close(self) -> None:
        """Release everything, even while requests use it."""
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
    """Return a model's name for clients: of a directory the last part, never the path.

    >>> called("sentence-transformers/all-MiniLM-L6-v2")
    'sentence-transformers/all-MiniLM-L6-v2'
    """
    path = Path(name)
    return path.resolve().name if path.exists() or path.is_absolute() else name
