"""Freezes parts of a model, and computes the outputs of a frozen backbone once.

For each side of a bi- or poly-encoder, the modules before the first one that is trained run once per text. Their
outputs are kept on disk by content; codes and maps then train in seconds.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules import Transformer
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from polyencoders.encoders.queries import Query
from polyencoders.errors import TrainingError
from polyencoders.models import SIDES, DualEncoder, Side, autocast_to_bf16, bf16_is_native
from polyencoders.models.fingerprint import fingerprint
from polyencoders.store import Store, in_cache
from polyencoders.training.processes import processes

CHOICES = "embeddings, all-but-top-K (K layers are trained), documents, backbone"

TEXTS_AT_ONCE = 1024  # Texts that are encoded before their outputs are written: the most that an interruption costs


def freeze(model: nn.Module, what: str | Sequence[str]) -> None:
    """Freeze parts of any model of this package; everything else is trained.

    `what` is one or several of `embeddings` (of tokens); `all-but-top-K`, such as `all-but-top-2`: embeddings and all
    layers but the last K; `documents`: the whole document side, so that stored vectors stay valid (needs two towers, or
    a frozen backbone); `backbone`: every transformer, so that only codes and maps are trained. Raises a `TrainingError`
    for an unknown name, a tower that both sides share, or nothing left to train.
    """
    names = [what] if isinstance(what, str) else list(what)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for name in names:
        if name == "documents":
            continue
        transformers = [module for module in model.modules() if isinstance(module, Transformer)]
        if not transformers:
            raise TrainingError(f"a {type(model).__name__} has no transformer to freeze")
        for transformer in transformers:
            if name == "backbone":
                transformer.requires_grad_(False)
            elif name == "embeddings":
                # BERT and its relatives have position and type embeddings in the same module as the tokens'.
                inner = transformer.model
                (getattr(inner, "embeddings", None) or inner.get_input_embeddings()).requires_grad_(False)
            elif match := re.fullmatch(r"all-but-top-(\d+)", name):
                _freeze_all_but_top(transformer, int(match[1]))
            else:
                raise TrainingError(f"cannot freeze {name!r}; what can be frozen: {CHOICES}")
    if "documents" in names:
        # Last, because a tower that both sides share must be frozen by then.
        if not isinstance(model, DualEncoder):
            raise TrainingError(f"a {type(model).__name__} has no document side to freeze: it reads pairs")
        route = model.route("document")
        if model.shared_tower and any(weights.requires_grad for weights in route[0].parameters()):
            raise TrainingError(
                "the document side cannot be frozen while queries share its tower: build the model with "
                "shared_tower=False, or freeze the backbone"
            )
        for module in route:
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        more = "give it learnt codes or maps (query_map=True, document_map=True), or " * isinstance(model, DualEncoder)
        raise TrainingError(
            f"with {', '.join(names)} frozen nothing of this {type(model).__name__} is left to train; {more}freeze less"
        )


def _freeze_all_but_top(transformer: Transformer, trained: int) -> None:
    # The layers are the longest list of modules.
    lists = [module for module in transformer.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise TrainingError(f"no list of layers was found in {type(transformer.model).__name__}")
    layers = max(lists, key=len)
    if trained > len(layers):
        raise TrainingError(f"all-but-top-{trained}: the backbone has {len(layers)} layers")
    top = {weights for layer in layers[len(layers) - trained :] for weights in layer.parameters()}
    for weights in set(transformer.parameters()) - top:
        weights.requires_grad_(False)


class FrozenOutputs:
    """The outputs of the frozen beginnings of a bi- or poly-encoder's two sides, computed once per text.

    They are kept in `folder`, by default the cache folder, and computed in bf16 where the hardware multiplies it.
    """

    def __init__(
        self, model: DualEncoder, folder: Path | None = None, bf16: bool | None = None, batch_size: int = 64
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.bf16 = bf16_is_native(model.device) if bf16 is None else bf16
        # A document is kept as one vector where possible. Of a query the transformer's outputs are kept, because every
        # architecture on this backbone can go on from them.
        self.prefixes: dict[Side, list[nn.Module]] = {
            "query": _frozen_prefix(model.route("query"))[:1],
            "document": _frozen_prefix(model.route("document")),
        }
        self.stores: dict[Side, Store] = {
            side: in_cache("outputs", fingerprint(self.prefixes[side], {"bf16": self.bf16}), folder)
            for side in SIDES
            if self.prefixes[side]
        }

    @property
    def useful(self) -> bool:
        """Whether a transformer is among what is frozen, so that keeping outputs saves work."""
        return bool(self.stores)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Makes the model use kept outputs in place of text, in training and in `encode` alike."""
        self.model.precomputed = self.features
        try:
            yield
        finally:
            self.model.precomputed = None

    def prepare(self, texts: Iterable[Query], side: Side, advance: Callable[[int], None] = lambda done: None) -> None:
        """Computes the outputs of texts that are not kept yet; `advance` is told how many more texts are done."""
        if side not in self.stores or self.stores[side].error is not None:
            return
        prompt = self.model.prompts.get(side) or ""
        cut = [prompt + self.model.text_of(text, side, prompt) for text in texts]
        missing = self._missing(cut, side)
        advance(len(cut) - len(missing))
        together = processes()
        if together.num_processes > 1:
            # Each process computes a part; the rest follows where they do not see each other's files.
            self._compute_and_keep(missing[together.process_index :: together.num_processes], side, advance)
            together.wait_for_everyone()
            missing = self._missing(missing, side)
        self._compute_and_keep(missing, side, advance)

    def features(self, texts: Sequence[str], side: Side) -> dict[str, Any]:
        """Returns what the rest of a side takes, for texts that are cut already; missing outputs are computed."""
        if side not in self.stores:
            return self.model.tokenized(texts, side)
        store = self.stores[side]
        keys = {text: store.key(text) for text in texts}
        kept = store.get(keys.values())
        if missing := [text for text, key in keys.items() if key not in kept]:
            fresh = {keys[text]: array for text, array in zip(missing, self._compute(missing, side), strict=True)}
            store.put(fresh)
            kept |= fresh
        outputs = [torch.from_numpy(kept[keys[text]].astype(np.float32)) for text in texts]
        applied = {"modules_applied": len(self.prefixes[side])}
        if self._reduced(side):
            return {"sentence_embedding": torch.cat(outputs), **applied}
        lengths = torch.tensor([len(output) for output in outputs])
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        padded = nn.utils.rnn.pad_sequence(outputs, batch_first=True)
        return {"token_embeddings": padded, "attention_mask": mask.long(), **applied}

    def _missing(self, texts: Iterable[str], side: Side) -> list[str]:
        """Returns the distinct texts whose outputs are not kept."""
        keys = {text: self.stores[side].key(text) for text in texts}
        kept = self.stores[side].has(keys.values())
        return [text for text, key in keys.items() if key not in kept]

    def _compute_and_keep(self, texts: list[str], side: Side, advance: Callable[[int], None]) -> None:
        store = self.stores[side]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = sorted(texts[start : start + TEXTS_AT_ONCE], key=len, reverse=True)
            arrays: dict[bytes, NDArray[Any]] = {}
            for first in range(0, len(some), self.batch_size):
                batch = some[first : first + self.batch_size]
                arrays.update(zip(map(store.key, batch), self._compute(batch, side), strict=True))
                advance(len(batch))
            store.put(arrays)

    def _reduced(self, side: Side) -> bool:
        """Returns whether one vector a text is kept, and not one a token."""
        return len(self.prefixes[side]) > 1

    @torch.inference_mode()
    def _compute(self, texts: list[str], side: Side) -> list[NDArray[Any]]:
        """Returns float16 arrays `(t, d)`, or `(1, d)` where the outputs are reduced to one vector."""
        device = self.model.device
        training = self.model.training
        self.model.eval()
        features = batch_to_device(self.model.tokenized(texts, side), device)
        with autocast_to_bf16(self.model, device, self.bf16):
            for module in self.prefixes[side]:
                features = module(features)
        self.model.train(training)
        if self._reduced(side):
            return list(features["sentence_embedding"].half().cpu()[:, None].numpy())
        mask = features["attention_mask"].bool()
        outputs: list[Tensor] = [output[real] for output, real in zip(features["token_embeddings"], mask, strict=True)]
        return [output.half().cpu().numpy() for output in outputs]


@contextmanager
def kept_outputs(
    model: nn.Module,
    bf16: bool | None,
    texts: Callable[[], Mapping[Side, Iterable[Query]]],
    on_texts: Callable[[str, int, int], None],
) -> Iterator[None]:
    """Makes a model use kept outputs of the texts, where a frozen transformer makes that worth while.

    `on_texts` is told what is encoded, how many texts are done, and how many there are.
    """
    outputs = FrozenOutputs(model, bf16=bf16) if isinstance(model, DualEncoder) else None
    if outputs is None or not outputs.useful:
        yield
        return
    with outputs.applied():
        for side, some in texts().items():
            distinct = list(dict.fromkeys(text if isinstance(text, str) else tuple(text) for text in some))
            done = 0

            def advance(number: int, side: Side = side, total: int = len(distinct)) -> None:
                nonlocal done
                done += number
                on_texts({"query": "queries", "document": "documents"}[side], done, total)

            outputs.prepare(distinct, side, advance)
        yield


def _frozen_prefix(route: list[nn.Module]) -> list[nn.Module]:
    """Returns the modules of a side before the first that has anything to train."""
    prefix = []
    for module in route:
        if any(weights.requires_grad for weights in module.parameters()):
            break
        prefix.append(module)
    return prefix
