"""Arrays on disk by the content they were made from: what was computed once is not computed again.

Each `add` writes one shard, a safetensors file, whole or not at all; a store is the shards in its folder, so
that an interrupted run loses only the shard it was writing, and several processes may add at the same time. Knows keys
and arrays; nothing of texts or models.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polyencoders.errors import TrainingError
from polyencoders.files import whole_file

KEY_BYTES = 16


class OutputStore:
    """Float16 arrays `(t, d)`, t of each array's own, by keys of 16 bytes.

    Parameters
    ----------
    folder
        Made when the first shard is written.

    Raises
    ------
    TrainingError
        When a shard cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     OutputStore(Path(folder)).add({b"0123456789abcdef": torch.ones(3, 2).half()})
    ...     OutputStore(Path(folder))[b"0123456789abcdef"].shape
    torch.Size([3, 2])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._shards: list[safe_open] = []
        self._opened: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        """See what other processes have added."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._opened:
                self._open(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __getitem__(self, key: bytes) -> Tensor:
        shard, start, stop = self._places[key]
        outputs: Tensor = self._shards[shard].get_slice("outputs")[start:stop]
        return outputs

    def add(self, arrays: Mapping[bytes, Tensor]) -> None:
        """Write float16 arrays as one shard; from then on they are found, here and by whoever opens the folder."""
        keys = np.frombuffer(b"".join(arrays), dtype=np.uint8).reshape(-1, KEY_BYTES)
        # Whoever asks for an output may compute in bf16, and autocast on a CPU refuses to join float16.
        with torch.autocast("cpu", enabled=False):
            outputs = torch.cat(list(arrays.values()))
        tensors = {
            "keys": torch.from_numpy(keys.copy()),
            "lengths": torch.tensor([len(array) for array in arrays.values()]),
            "outputs": outputs,
        }
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        with whole_file(path) as scratch:
            save_file(tensors, scratch)
        self._open(path)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def _open(self, path: Path) -> None:
        try:
            shard = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise TrainingError(f"{path} is damaged ({error}): delete it, and its outputs are computed anew") from error
        stops = shard.get_tensor("lengths").cumsum(0).tolist()
        keys = shard.get_tensor("keys").numpy().tobytes()
        for number, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
            self._places[keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]] = (len(self._shards), start, stop)
        self._shards.append(shard)
        self._opened.add(path)
