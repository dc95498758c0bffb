"""One lock for each model: a tokeniser must not be used by two threads at once, whichever objects share the model."""

import threading
from typing import Any
from weakref import WeakKeyDictionary

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_making = threading.Lock()


def lock_of(model: Any) -> threading.RLock:
    """Return the lock under which a model is used: the same for every caller, as long as the model lives.

    >>> class Model: ...
    >>> one, other = Model(), Model()
    >>> lock_of(one) is lock_of(one), lock_of(one) is lock_of(other)
    (True, False)
    """
    with _making:
        return _locks.setdefault(model, threading.RLock())
