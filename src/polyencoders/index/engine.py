"""LanceDB, imported without the client of a REST catalogue that indexes never call."""

import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

from polyencoders.errors import MissingExtraError

_CACHE_BYTES = 64 << 20
_CATALOGUE = "lance_namespace_urllib3_client"
_importing = threading.Lock()


def connect(where: str, options: Mapping[str, str] | None = None) -> Any:
    """The LanceDB database at an address; MissingExtraError if LanceDB is not installed."""
    with _importing:
        lancedb = _lancedb()
    # Its caches are for random access to columns that we keep in memory ourselves: by default they may take gigabytes.
    session = lancedb.Session(index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES)
    return lancedb.connect(where, session=session, storage_options=options)


def _lancedb() -> ModuleType:
    for quick in (True, False):  # a later release may need the whole of it
        try:
            with _without_init(_CATALOGUE) if quick else nullcontext():
                import lancedb
            return lancedb
        except ImportError:
            continue
    raise MissingExtraError("lancedb", "index")


@contextmanager
def _without_init(package: str) -> Iterator[None]:
    """Let modules of a package be imported, but not all that its `__init__` imports.

    LanceDB wants some types of this one. Its `__init__` makes pydantic validators for each call of the REST client,
    which is more than half of the time that `import lancedb` takes.
    """
    spec = None if "lancedb" in sys.modules or package in sys.modules else importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    bare = ModuleType(package)
    bare.__path__ = list(spec.submodule_search_locations)
    bare.__spec__ = spec
    sys.modules[package] = bare
    try:
        yield
    finally:
        del sys.modules[package]  # who imports it later gets all of it
