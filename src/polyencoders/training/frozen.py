"""Training on a frozen backbone: what the frozen modules put out is computed once and kept on disk by content.

For each side of a bi- or poly-encoder, the modules before the first one with anything to train are applied once per
text; codes and maps then train in seconds. Knows routes of modules and a store of arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from polyencoders.encoders.queries import Query
from polyencoders.files import cache_folder
from polyencoders.models.dual import TASKS, DualEncoder, Task
from polyencoders.models.fingerprint import fingerprint
from polyencoders.models.precision import autocast_to_bf16, bf16_is_native
from polyencoders.training.output_store import OutputStore
from polyencoders.training.processes import processes

TEXTS_PER_SHARD = 1024
"""How many texts are encoded before their outputs are written: what an interruption can cost."""

_FORMAT = 1  # goes into every key: a later format must not meet these shards


class FrozenOutputs:
    """The outputs of the frozen beginnings of a model's two routes, computed once per text.

    Parameters
    ----------
    model
        A bi- or poly-encoder of which something is frozen.
    folder
        Where to keep them; by default `cache_folder()`.
    bf16
        Whether to compute them in bf16; by default where the machine multiplies it in hardware.
    batch_size
        Texts encoded at a time.
    """

    def __init__(
        self, model: DualEncoder, folder: Path | None = None, bf16: bool | None = None, batch_size: int = 64
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.bf16 = bf16_is_native(model.device) if bf16 is None else bf16
        # A document is kept as one vector where it can be. Of a query the transformer's outputs are, however they are
        # reduced: every architecture on this backbone goes on from them.
        self.prefixes: dict[Task, list[nn.Module]] = {
            "query": _frozen_prefix(model.route("query"))[:1],
            "document": _frozen_prefix(model.route("document")),
        }
        self.stores: dict[Task, OutputStore] = {}
        for task in TASKS:
            if self.prefixes[task]:
                settings = {"format": _FORMAT, "bf16": self.bf16}
                name = fingerprint(self.prefixes[task], settings)
                self.stores[task] = OutputStore((folder or cache_folder()) / "outputs" / name)

    @property
    def useful(self) -> bool:
        """Whether any transformer lies in a frozen beginning, so that keeping outputs saves work."""
        return bool(self.stores)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the model take kept outputs in place of text, in training and in `encode` alike."""
        self.model.precomputed = self.features
        try:
            yield
        finally:
            self.model.precomputed = None

    def prepare(self, texts: Iterable[Query], task: Task, advance: Callable[[int], None] = lambda done: None) -> None:
        """Compute what is not kept yet.

        Parameters
        ----------
        texts
            Queries or documents, as they will be trained on.
        task
            Which of the two.
        advance
            Called with the number of texts done, now and then.
        """
        if task not in self.stores:
            return
        prompt = self.model.prompts.get(task) or ""
        cut = [prompt + self.model.text_of(text, task, prompt) for text in texts]
        missing = [text for text in dict.fromkeys(cut) if _key(text) not in self.stores[task]]
        advance(len(cut) - len(missing))
        together = processes()
        if together.num_processes > 1:
            # Each computes a share; where they do not see each other's files, the others' as well.
            self._keep(missing[together.process_index :: together.num_processes], task, advance)
            together.wait_for_everyone()
            self.stores[task].refresh()
            missing = [text for text in missing if _key(text) not in self.stores[task]]
        self._keep(missing, task, advance)

    def _keep(self, missing: list[str], task: Task, advance: Callable[[int], None]) -> None:
        for start in range(0, len(missing), TEXTS_PER_SHARD):
            shard = sorted(missing[start : start + TEXTS_PER_SHARD], key=len, reverse=True)
            arrays: dict[bytes, Tensor] = {}
            for first in range(0, len(shard), self.batch_size):
                batch = shard[first : first + self.batch_size]
                arrays.update(zip(map(_key, batch), self._compute(batch, task), strict=True))
                advance(len(batch))
            self.stores[task].add(arrays)

    def prepare_all(self, texts: Mapping[Task, Iterable[Query]], on_texts: Callable[[str, int, int], None]) -> None:
        """`prepare` both sides, each text once; `on_texts` is told what, texts done, texts in all."""
        for side in TASKS:
            distinct = list(dict.fromkeys(text if isinstance(text, str) else tuple(text) for text in texts[side]))
            done = 0

            def advance(number: int, side: Task = side, total: int = len(distinct)) -> None:
                nonlocal done
                done += number
                on_texts({"query": "queries", "document": "documents"}[side], done, total)

            self.prepare(distinct, side, advance)

    def features(self, texts: Sequence[str], task: Task) -> dict[str, Any]:
        """The features that the rest of a route takes, of texts that are cut already."""
        if task not in self.stores:
            return self.model.tokenized(texts, task)
        store = self.stores[task]
        missing = [text for text in dict.fromkeys(texts) if _key(text) not in store]
        if missing:
            store.add(dict(zip(map(_key, missing), self._compute(missing, task), strict=True)))
        outputs = [store[_key(text)].float() for text in texts]
        applied = {"modules_applied": len(self.prefixes[task])}
        if self._reduced(task):
            return {"sentence_embedding": torch.cat(outputs), **applied}
        lengths = torch.tensor([len(output) for output in outputs])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        padded = nn.utils.rnn.pad_sequence(outputs, batch_first=True)
        return {"token_embeddings": padded, "attention_mask": mask.long(), **applied}

    def _reduced(self, task: Task) -> bool:
        return len(self.prefixes[task]) > 1

    @torch.inference_mode()
    def _compute(self, texts: list[str], task: Task) -> list[Tensor]:
        device = self.model.device
        training = self.model.training
        self.model.eval()
        features = batch_to_device(self.model.tokenized(texts, task), device)
        with autocast_to_bf16(self.model, device, self.bf16):
            for module in self.prefixes[task]:
                features = module(features)
        self.model.train(training)
        if self._reduced(task):
            return list(features["sentence_embedding"].half().cpu()[:, None])
        mask = features["attention_mask"].bool()
        return [output[real].half().cpu() for output, real in zip(features["token_embeddings"], mask, strict=True)]


def _frozen_prefix(route: list[nn.Module]) -> list[nn.Module]:
    """The modules of a route before the first that has anything to train."""
    prefix = []
    for module in route:
        if any(weights.requires_grad for weights in module.parameters()):
            break
        prefix.append(module)
    return prefix


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
