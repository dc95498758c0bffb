"""A batch's texts go through a transformer in groups of like length, so that little padding is computed.

A batch is as wide as its longest text. A third to two thirds of a real batch is padding, which costs a CPU as much as
words do. The outputs are the same: a text's outputs do not depend on its padding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from torch.nn import functional

LEAST = 64
"""Tokens of padding, for each thread, that another group has to save. One more pass through all weights costs about as
much, and more threads do not make that pass quicker."""


@contextmanager
def grouped_by_length(model: nn.Module) -> Iterator[None]:
    """Makes a model's transformers take batches in groups of like length, on a CPU; a GPU is quicker without."""
    least = LEAST * torch.get_num_threads()
    on_cpu = all(weights.device.type == "cpu" for weights in model.parameters())
    transformers = [module for module in model.modules() if on_cpu and isinstance(module, Transformer)]
    for transformer in transformers:
        transformer.forward = partial(_in_groups, transformer.forward, transformer.module_output_name, least)
    try:
        yield
    finally:
        for transformer in transformers:
            del transformer.forward


def _in_groups(
    forward: Callable[..., dict[str, Any]], output_name: str, least: int, features: dict[str, Any], **keywords: Any
) -> dict[str, Any]:
    """Returns the features with a transformer's outputs, `(b, t, d)` or `(b, labels)`, computed group by group."""
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
    """Returns where to cut texts, the longest first, so that each cut saves more than `least` tokens of padding.

    >>> cuts([100, 98, 12, 10, 9], least=64)
    [2]
    >>> cuts([100, 98, 97], least=64)
    []
    """
    saved = [(lengths[0] - length) * (len(lengths) - place) for place, length in enumerate(lengths)]
    place = max(range(len(saved)), key=saved.__getitem__, default=0)
    if not saved or saved[place] <= least:
        return []
    return [*cuts(lengths[:place], least), place, *(place + cut for cut in cuts(lengths[place:], least))]


def _lengths(mask: Tensor) -> list[int]:
    """Returns each text's length, behind which there is only padding; the batch's width where padding is elsewhere.

    A mask `(b, t)` is 1 for words. A mask `(b, 1, t, t)` is added to the attention; padding sees nothing, not even
    itself.
    """
    own = mask if mask.ndim == 2 else mask[:, 0].diagonal(dim1=1, dim2=2) - torch.finfo(mask.dtype).min
    words = own > 0
    if bool((words[:, 1:] > words[:, :-1]).any()):
        return [words.shape[1]] * len(words)
    return [int(number) for number in words.sum(dim=1)]


def _narrowed(value: Any, rows: Tensor, whole: torch.Size, width: int) -> Any:
    """Returns rows of a tensor that begins with the batch, cut to a width; anything else as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != whole[0]:
        return value
    value = value[rows]
    for dimension in range(1, value.ndim):
        if value.shape[dimension] == whole[1]:
            value = value.narrow(dimension, 0, width)
    return value
