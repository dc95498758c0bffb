"""Attention that reads a second text: transformers' attention, with a query's keys and values beside a text's own.

transformers lets attention functions be registered by name. It calls them in every layer, and hands on what a model was
called with by keyword. One such argument, `reading`, keeps what queries are in each layer, and gives it to documents.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

READING = "polyencoders-reading"  # The attention's name in transformers


class Memory(NamedTuple):
    """What documents need of queries: the keys and values of every layer, and which of them are words."""

    layers: list[tuple[Tensor, Tensor]]  # Keys and values `(q, heads, t, d)` of each layer, in order
    mask: Tensor  # 1 for words, 0 for padding: `(q, t)`

    def of(self, query_of: Tensor) -> "Memory":
        """Return the memory of the query of each of n documents; one query stays one, which all of them share."""
        if self.mask.shape[0] == 1:
            return self
        return Memory([(key[query_of], value[query_of]) for key, value in self.layers], self.mask[query_of])


class Reading:
    """One pass of texts through the layers. It keeps their keys and values, and has them read those of a memory.

    Parameters
    ----------
    memory
        Of one query, or of one for each text. None: texts read only themselves.
    bias
        What is added to the attention to the memory's words.
    """

    def __init__(self, memory: Memory | None = None, bias: float = 0.0) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._memory, self._bias = memory, bias
        self._rest: Iterator[tuple[Tensor, Tensor]] = iter(memory.layers if memory else ())

    def joined(self, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return keys, values and mask of the next layer: those of the memory, if there is one, before a text's own."""
        self.layers.append((key, value))
        if self._memory is None:
            return key, value, mask
        texts, own = key.shape[0], key.shape[2]
        least = torch.finfo(key.dtype).min
        seen = torch.where(self._memory.mask > 0, max(self._bias, least), least).to(key.dtype)[:, None, None]
        mask = key.new_zeros(1, 1, 1, own) if mask is None else mask.to(key.dtype)
        masks = [part.expand(texts, 1, own, part.shape[3]) for part in (seen, mask)]
        keys, values = (part.expand(texts, *part.shape[1:]) for part in next(self._rest))
        return torch.cat([keys, key], 2), torch.cat([values, value], 2), torch.cat(masks, 3)


def reading_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    reading: Reading | None = None,
    **ignored: Any,
) -> tuple[Tensor, None]:
    """`sum_j softmax_j(q_i . k_j / sqrt(d) + g_ij) v_j` over a text's own words and those that `reading` adds.

    The arguments are those that transformers calls attention functions with: tensors are `(n, heads, t, d)`, the mask
    is added, and the result is `(n, t, heads, d)`.
    """
    if reading is not None:
        key, value, attention_mask = reading.joined(key, value, attention_mask)
    mask = None if attention_mask is None else attention_mask.to(query.dtype)
    read = functional.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
    return read.transpose(1, 2).contiguous(), None


AttentionInterface.register(READING, reading_attention)
AttentionMaskInterface.register(READING, eager_mask)
