"""Where an index lies: in object storage if its place is `s3://bucket/name`, else in a folder of this machine."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from polyencoders.errors import IndexingError, MissingExtraError
from polyencoders.index.storage.folder import Folder
from polyencoders.index.storage.protocol import TABLE, File, OvertakenError, Place, Storage

if TYPE_CHECKING:
    from polyencoders.index.storage.bucket import Bucket

__all__ = ["existing", "is_index", "new", "place_of", "Storage", "File", "Place", "OvertakenError", "TABLE"]


def place_of(place: Place) -> Path | str:
    """A path, or an address in object storage as a string; IndexingError for an address of another kind.

    >>> place_of("s3://bucket/answers/"), place_of("answers")
    ('s3://bucket/answers', PosixPath('answers'))
    """
    if not isinstance(place, str) or "://" not in place:
        return Path(place)
    if not place.startswith("s3://") or not place.removeprefix("s3://").strip("/"):
        raise IndexingError(f"{place}: an index is in a folder, or in object storage at s3://bucket/name")
    return place.rstrip("/")


def existing(place: Place, options: Mapping[str, str] | None = None) -> Storage:
    """The storage of an index; IndexingError if there is none."""
    where = place_of(place)
    return _bucket().existing(where, options) if isinstance(where, str) else Folder.existing(where)


def new(place: Place, options: Mapping[str, str] | None = None) -> AbstractContextManager[Storage]:
    """Storage for a new index, which appears at its free place when the block ends without an error."""
    where = place_of(place)
    return _bucket().new(where, options) if isinstance(where, str) else Folder.new(where)


def is_index(place: Place, options: Mapping[str, str] | None = None) -> bool:
    """Whether there is an index at a place."""
    where = place_of(place)
    return _bucket().is_index(where, options) if isinstance(where, str) else Folder.is_index(where)


def _bucket() -> "type[Bucket]":
    try:
        from polyencoders.index.storage.bucket import Bucket
    except ImportError:
        raise MissingExtraError("obstore", "s3") from None
    return Bucket
