"""Where an index lies: a folder of this machine, or a bucket of object storage."""

from polyencoders.index.storage.opening import existing, is_index, new, place_of
from polyencoders.index.storage.protocol import TABLE, File, OvertakenError, Place, Storage

__all__ = ["existing", "is_index", "new", "place_of", "Storage", "File", "Place", "OvertakenError", "TABLE"]
