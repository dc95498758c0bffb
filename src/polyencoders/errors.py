"""The errors that people see. Each message says what was given, where, and what would be right."""


class PolyencodersError(Exception):
    """Base of every error this package raises on purpose; the command line prints its message as one line."""


class DataError(PolyencodersError, ValueError):
    """Data that cannot be used as given: a malformed line, an empty text, a list without the right answer."""


class ModelError(PolyencodersError, ValueError):
    """A model directory, or a model setting, that cannot be used as given."""


class TrainingError(PolyencodersError, RuntimeError):
    """A training run that cannot start or cannot go on; what had been saved stays as it was."""


class IndexingError(PolyencodersError, RuntimeError):
    """An index that cannot be made, opened, changed or searched as asked; what it held stays as it was."""


class StorageError(IndexingError):
    """Object storage does not answer, or refuses. Nothing of the index is lost; the request can be repeated."""


class ClusterError(PolyencodersError, RuntimeError):
    """A cluster that cannot be joined, or machines of it that are lost and do not come back in time."""


class RefusalError(PolyencodersError):
    """Work that is refused, whatever it is about, such as by a server that is busy; it can be asked for again later."""


class MissingExtraError(PolyencodersError, ImportError):
    """A feature whose optional packages are not installed.

    >>> str(MissingExtraError("chitchat_dataset", "demo"))
    'this needs the package chitchat_dataset: pip install "polyencoders[demo]"'
    """

    def __init__(self, package: str, extra: str, why: str = "this") -> None:
        super().__init__(f'{why} needs the package {package}: pip install "polyencoders[{extra}]"')
