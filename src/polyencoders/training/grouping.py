"""A batch's texts go through a transformer in groups of like length, so that little padding is computed.

A batch is as wide as its longest text, and of real batches a third to two thirds is padding, on which a processor
works as hard as on words. What is learnt is the same: a text's outputs do not depend on what it is padded to. Knows
tensors of features; nothing of losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from torch.nn import functional

LEAST = 64
"""Tokens of padding, for each thread, that another group has to save: about what going through all weights once more
costs, which is no quicker with more threads."""


@contextmanager
def grouped_by_length(model: nn.Module) -> Iterator[None]:
    """Have the transformers within a model take every batch in groups of like length, for a while.

    On a CPU alone: a GPU is quicker with a whole batch.
    """
    least = LEAST * torch.get_num_threads()
    on_cpu = all(weights.device.type == "cpu" for weights in model.parameters())
    transformers = [module for module in model.modules() if on_cpu and isinstance(module, Transformer)]
    for transformer in transformers:
        transformer.forward = partial(in_groups, transformer.forward, transformer.module_output_name, least)
    try:
        yield
    finally:
        for transformer in transformers:
            del transformer.forward


def in_groups(
    forward: Callable[..., dict[str, Any]], output_name: str, least: int, features: dict[str, Any], **keywords: Any
) -> dict[str, Any]:
    """The features with `forward`'s outputs, computed group by group.

    Parameters
    ----------
    forward
        Of a transformer.
    output_name
        What it calls its outputs, `(b, t, d)`, or `(b, labels)`.
    least
        As for `cuts`.
    features
        As the transformer takes them: tensors that begin with the batch, and anything else.
    """
    lengths = _lengths(features["attention_mask"])
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    places = cuts([lengths[row] for row in order], least)
    if not places:
        return forward(features, **keywords)
    outputs = []
    for rows in torch.tensor(order).tensor_split(places):
        width = max(1, lengths[int(rows[0])])
        part = {name: _narrowed(value, rows, features["input_ids"].shape, width) for name, value in features.items()}
        output = forward(part, **keywords)[output_name]
        if output.ndim == 3:
            output = functional.pad(output, (0, 0, 0, features["input_ids"].shape[1] - width))
        outputs.append(output)
    return {**features, output_name: torch.cat(outputs)[torch.tensor(order).argsort()]}


def cuts(lengths: Sequence[int], least: int) -> list[int]:
    """Where texts, the longest first, are cut into groups, so that each cut saves more than `least` tokens of padding.

    Examples
    --------
    >>> cuts([100, 98, 12, 10, 9], least=64)
    [2]
    >>> cuts([100, 98, 97], least=64)
    []
    """
    saved = [(lengths[0] - length) * (len(lengths) - place) for place, length in enumerate(lengths)]
    place = max(range(len(saved)), key=saved.__getitem__, default=0)
    if not saved or saved[place] <= least:
        return []
    shorter = (place + cut for cut in cuts(lengths[place:], least))
    return [*cuts(lengths[:place], least), place, *shorter]


def _lengths(mask: Tensor) -> list[int]:
    """Of each text of a batch, behind which there is only padding; where padding stands elsewhere, the batch's width.

    A mask `(b, t)` is 1 for words. One `(b, 1, t, t)` is added to the attention, and has padding see nothing, not even
    itself.
    """
    own = mask if mask.ndim == 2 else mask[:, 0].diagonal(dim1=1, dim2=2) - torch.finfo(mask.dtype).min
    words = own > 0
    if bool((words[:, 1:] > words[:, :-1]).any()):
        return [words.shape[1]] * len(words)
    return [int(number) for number in words.sum(dim=1)]


def _narrowed(value: Any, rows: Tensor, whole: torch.Size, width: int) -> Any:
    """Rows of a tensor that begins with the batch, as wide as they need; anything else as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != whole[0]:
        return value
    value = value[rows]
    for dimension in range(1, value.ndim):
        if value.shape[dimension] == whole[1]:
            value = value.narrow(dimension, 0, width)
    return value
