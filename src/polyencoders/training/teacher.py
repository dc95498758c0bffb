"""A teacher's scores of pairs: computed once, a shard at a time, and kept on disk by teacher and texts.

A shard is a safetensors file, written whole or not at all: an interruption costs the one that was being made. Knows
models that score pairs; nothing of who learns from them.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from polyencoders.data import Example
from polyencoders.data.examples import shortened
from polyencoders.errors import TrainingError
from polyencoders.files import cache_folder, whole_file
from polyencoders.models.dual import DualEncoder
from polyencoders.models.fingerprint import fingerprint
from polyencoders.models.joint import JointEncoder
from polyencoders.models.loading import load_model
from polyencoders.models.precision import bf16_is_native, in_full_precision
from polyencoders.training.processes import by_the_first, of_all, processes

_FORMAT = 1  # goes into the folder's name: a later format must not meet these shards


class Teacher:
    """A model whose scores another learns from.

    Parameters
    ----------
    model
        A cross-encoder, ARC-II, a bi- or poly-encoder, or where to load it from; a directory of a reranker of
        sentence-transformers or transformers (one label) is a cross-encoder.
    folder
        Where scores are kept; by default `$POLYENCODERS_CACHE`, or the user's cache folder.
    bf16
        Whether to compute in bf16; by default where the machine multiplies it in hardware.
    shard
        Pairs that are scored before they are written; default 512, or 65,536 where each text is read by itself.

    Raises
    ------
    ModelError
        It cannot be loaded.
    TrainingError
        It is no such model, or kept scores are damaged.
    """

    def __init__(
        self,
        model: Any,
        folder: Path | None = None,
        bf16: bool | None = None,
        shard: int | None = None,
    ) -> None:
        if isinstance(model, str | os.PathLike):
            self.name = os.fspath(model)
            model = load_model(model)
        else:
            self.name = type(model).__name__
        if not isinstance(model, DualEncoder | JointEncoder):
            raise TrainingError(
                f"a teacher is a CrossEncoder, ArcII, BiEncoder or PolyEncoder, or where to load one from; got a "
                f"{type(model).__name__}"
            )
        in_full_precision(model)
        self.model: Any = model
        self.bf16 = bf16_is_native(model.device) if bf16 is None else bf16
        self.shard = shard or (65_536 if isinstance(model, DualEncoder) else 512)
        settings = {
            "format": _FORMAT,
            "bf16": self.bf16,
            "model": [type(model).__name__, model._own],
            "prompts": dict(model.prompts),
            "length": model.max_seq_length,
        }
        parts = model.route("query") + model.route("document") if isinstance(model, DualEncoder) else list(model)
        self.folder = (folder or cache_folder()) / "teachers" / fingerprint(parts, settings)
        self._keys, self._scores = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        self._shards: list[Path] = []
        self._read()

    def score(
        self, lists: Sequence[Example], advance: Callable[[int, int], None] = lambda done, total: None
    ) -> NDArray[np.float32]:
        """Scores of each query's right answer and negatives, in that order.

        A cross-encoder's are taken before its activation, whose ends tell nothing apart; those of cosines times 20, as
        in a loss.

        Parameters
        ----------
        lists
            `q` examples of one right answer and equally many negatives each.
        advance
            Told how many pairs are done, and of how many.

        Returns
        -------
        numpy.ndarray
            `(q, 1 + negatives)`, float32.

        Raises
        ------
        TrainingError
            A score is not a number.
        """
        pairs = [(one.query, text) for one in lists for text in (*one.positives, *one.negatives)]
        keys = np.array([_key(query, text) for query, text in pairs], dtype=np.int64)
        _, first = np.unique(keys, return_index=True)
        missing = by_the_first(lambda: np.sort(first[~self._has(keys[first])]))
        if isinstance(self.model, JointEncoder):
            # Pairs of like length together, so that little of a batch is padding; the longest, and slowest, first.
            sizes = [sum(map(len, query)) + len(text) for query, text in (pairs[place] for place in missing)]
            missing = missing[np.argsort(sizes, kind="stable")[::-1]]
        done, total = len(first) - len(missing), len(first)
        advance(done, total)
        together = processes()
        mine = missing[together.process_index :: together.num_processes]
        made = []
        for start in range(0, len(mine), self.shard):
            places = mine[start : start + self.shard]
            made.append((keys[places], self._computed([pairs[place] for place in places])))
            self._write(*made[-1])
            done += len(places) * together.num_processes
            advance(min(done, total), total)
        if len(missing):
            for some, scores in of_all(made):
                self._remember(some, scores)
            if together.num_processes == 1:
                self._join()
        # From one process: what another has kept may be another's rounding.
        return by_the_first(lambda: self._scores[np.searchsorted(self._keys, keys)].reshape(len(lists), -1))

    def _has(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(self._keys):
            return np.zeros(len(keys), dtype=bool)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[places] == keys)

    def _computed(self, pairs: list[tuple[tuple[str, ...], str]]) -> NDArray[np.float32]:
        asked = [(list(query), text) for query, text in pairs]
        # Beyond an activation, such as the sigmoid of many rerankers, all that is far from 0 is alike.
        plain = {"activation_fn": nn.Identity()} if isinstance(self.model, JointEncoder) else {}
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            scores = self.model.predict(asked, batch_size=64, show_progress_bar=False, convert_to_tensor=True, **plain)
        found: NDArray[np.float32] = (scores.float().cpu().numpy() * self.model.score_scale).astype(np.float32)
        if not np.isfinite(found).all():
            query, text = pairs[int(np.flatnonzero(~np.isfinite(found))[0])]
            raise TrainingError(f"{self.name} scores {shortened(text)} for {shortened(list(query))}: not a number")
        return found

    def _read(self) -> None:
        keys, scores = [], []
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                shard = load_file(path)
            except FileNotFoundError:  # joined with others by another process, a moment ago
                continue
            except SafetensorError as error:
                raise TrainingError(f"{path} is damaged ({error}): delete it, and its scores are made anew") from error
            keys.append(shard["keys"])
            scores.append(shard["scores"])
            self._shards.append(path)
        if keys:
            self._remember(np.concatenate(keys), np.concatenate(scores))

    def _remember(self, keys: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        self._keys, first = np.unique(np.concatenate([self._keys, keys]), return_index=True)
        self._scores = np.concatenate([self._scores, scores])[first]

    def _write(self, keys: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        with whole_file(path) as scratch:
            save_file({"keys": keys, "scores": scores}, scratch)
        self._shards.append(path)

    def _join(self) -> None:
        """One shard in place of the many whose scores are known here."""
        if len(self._shards) > 1:
            earlier, self._shards = self._shards, []
            self._write(self._keys, self._scores)
            for path in earlier:
                path.unlink(missing_ok=True)


def _key(query: Sequence[str], text: str) -> int:
    """A number for a pair, as good as unique to it (64 bits)."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (*query, "", text):
        content = part.encode()
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return int.from_bytes(digest.digest(), "big", signed=True)
