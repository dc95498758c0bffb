"""A teacher: a model whose scores another model learns from. Scores are computed once and kept on disk."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import nn

from polyencoders.data import Example
from polyencoders.data.examples import shortened
from polyencoders.errors import TrainingError
from polyencoders.models import DualEncoder, JointEncoder, bf16_is_native, in_full_precision, load_model
from polyencoders.models.fingerprint import fingerprint
from polyencoders.store import in_cache
from polyencoders.training.processes import by_the_first, processes


class Teacher:
    """A model whose scores another model learns from.

    Parameters
    ----------
    model
        Any model of this package, or where to load one from; a reranker of one label loads as a cross-encoder.
    folder
        Where scores are kept. Default: `$POLYENCODERS_CACHE`, or the user's cache folder.
    bf16
        Whether to compute in bf16. Default: where the hardware multiplies it.
    pairs_at_once
        Pairs that are scored before their scores are written. Default: 512, or 65,536 for bi- and poly-encoders.

    Raises
    ------
    ModelError
        The model cannot be loaded.
    TrainingError
        It is not a model that can teach.
    """

    def __init__(
        self, model: Any, folder: Path | None = None, bf16: bool | None = None, pairs_at_once: int | None = None
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
        self.pairs_at_once = pairs_at_once or (65_536 if isinstance(model, DualEncoder) else 512)
        settings = {
            "bf16": self.bf16,
            "model": [type(model).__name__, model.saved_settings],
            "prompts": dict(model.prompts),
            "length": model.max_seq_length,
        }
        parts = model.route("query") + model.route("document") if isinstance(model, DualEncoder) else list(model)
        self.store = in_cache("teachers", fingerprint(parts, settings), folder)

    def score(
        self, lists: Sequence[Example], advance: Callable[[int, int], None] = lambda done, total: None
    ) -> NDArray[np.float32]:
        """Scores each query's right answer and negatives, in this order: `(q, 1 + negatives)`, float32.

        `lists` are `q` examples of one right answer and equally many negatives each; the rest is as for `score_pairs`.
        """
        pairs = [(one.query, text) for one in lists for text in (*one.positives, *one.negatives)]
        return self.score_pairs(pairs, advance).reshape(len(lists), -1)

    def score_pairs(
        self,
        pairs: Sequence[tuple[tuple[str, ...], str]],
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """Scores pairs of a query's turns and a document: `(n,)`, float32.

        A cross-encoder's scores are taken before its activation, which would make all good documents alike. Cosines are
        multiplied by 20, as in the losses. `advance` is told how many pairs are done, and of how many. Raises a
        `TrainingError` where a score is not a number.
        """
        keys = [self.store.key(*query, "", text) for query, text in pairs]
        distinct = dict(zip(keys, pairs, strict=True))
        # A few at a time, because an array each is large.
        parts = (list(distinct)[start : start + 65_536] for start in range(0, len(distinct), 65_536))
        scores: dict[bytes, float] = by_the_first(
            lambda: {key: float(array) for part in parts for key, array in self.store.get(part).items()}
        )
        missing = [key for key in distinct if key not in scores]
        if isinstance(self.model, JointEncoder):
            # Pairs of like length go together, so that little of a batch is padding. The longest and slowest go first.
            missing.sort(key=lambda key: sum(map(len, distinct[key][0])) + len(distinct[key][1]), reverse=True)
        done, total = len(distinct) - len(missing), len(distinct)
        advance(done, total)
        together = processes()
        mine = missing[together.process_index :: together.num_processes]
        fresh: dict[bytes, float] = {}
        for start in range(0, len(mine), self.pairs_at_once):
            some = mine[start : start + self.pairs_at_once]
            computed = self._computed([distinct[key] for key in some])
            self.store.put(dict(zip(some, computed, strict=True)))
            fresh.update(zip(some, computed.tolist(), strict=True))
            done += len(some) * together.num_processes
            advance(min(done, total), total)
        # The first process says what all learn from: elsewhere a score may be rounded otherwise.
        scores.update(gather_object(list(fresh.items())))
        return by_the_first(lambda: np.array([scores[key] for key in keys], np.float32))

    def _computed(self, pairs: list[tuple[tuple[str, ...], str]]) -> NDArray[np.float32]:
        asked = [(list(query), text) for query, text in pairs]
        # After an activation, such as the sigmoid of many rerankers, all scores far from 0 are alike.
        plain = {"activation_fn": nn.Identity()} if isinstance(self.model, JointEncoder) else {}
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            scores = self.model.predict(asked, batch_size=64, show_progress_bar=False, convert_to_tensor=True, **plain)
        found: NDArray[np.float32] = (scores.float().cpu().numpy() * self.model.score_scale).astype(np.float32)
        if not np.isfinite(found).all():
            query, text = pairs[int(np.flatnonzero(~np.isfinite(found))[0])]
            raise TrainingError(f"{self.name} scores {shortened(text)} for {shortened(list(query))}: not a number")
        return found
