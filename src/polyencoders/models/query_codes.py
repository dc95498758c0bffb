"""Makes m query codes of the token outputs of a query (Humeau et al. 2020, section 4.4).

A text of fewer than m tokens has fewer codes of the kinds `first` and `last`; the others are zeros, which the score
reads as absent.
"""

from typing import Any, Literal, Self, get_args

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor, nn

from polyencoders.checks import check_whole_number
from polyencoders.errors import ModelError
from polyencoders.models.directory import hub_arguments

CodeKind = Literal["learnt", "first", "last", "last-and-first"]
MapKind = Literal["each", "shared", "none"]

INITIAL_CODE_SPREAD = 0.02
"""Standard deviation of learnt codes before training: small, so that each starts by attending to all outputs alike
and a poly-encoder starts where the mean-pooled bi-encoder of the same backbone stands. Larger ones began, and ended,
worse (docs/design.md)."""

DISTANCES = 32
"""Steps of distance that have a bias of their own: 0 to 7 outputs, then four steps to each doubling, up to 430."""


class QueryCodes(Module):
    """Reduces the token outputs `h_1..h_N` of a query to m vectors `y_1..y_m`.

    Input features: `token_embeddings (b, t, d)`, `attention_mask (b, t)`, padding on either side.
    Output feature: `sentence_embedding (b, m, d)`.

    Parameters
    ----------
    embedding_dimension
        d of the token outputs.
    m
        Number of codes, at least 1. `last-and-first` gives m + 1.
    kind
        `learnt`: `y_i = sum_j softmax_j(c_i . h_j) h_j` with learnt codes `c_i`; `first`: `h_1..h_m`;
        `last`: `h_{N-m+1}..h_N`; `last-and-first`: those and `h_1`.
    maps
        A linear map after each code: one of its own (`each`), the same (`shared`), or `none` (the paper).
        Maps start as the identity.
    position_bias
        Of learnt codes: whether they weigh how far from the query's end an output stands as well,
        `y_i = sum_j softmax_j(c_i . h_j + b_i(N - j)) h_j` (a learnt bias for each step of distance, as in T5: Raffel
        et al. 2020, section 2.1). Biases start at 0. The paper has none.

    Raises
    ------
    ModelError
        m below 1, a kind or maps not named above, or a bias of codes that are not learnt.
    """

    config_keys: list[str] = ["embedding_dimension", "m", "kind", "maps", "position_bias"]  # noqa: RUF012 as in the base

    def __init__(
        self,
        embedding_dimension: int,
        m: int,
        kind: CodeKind = "learnt",
        maps: MapKind = "none",
        position_bias: bool = False,  # what models saved before there was one do not say
    ) -> None:
        super().__init__()
        check_whole_number("m, the number of query codes,", m)
        if kind not in get_args(CodeKind):
            raise ModelError(f"codes must be one of {', '.join(get_args(CodeKind))}, got {kind!r}")
        if maps not in get_args(MapKind):
            raise ModelError(f"maps must be one of {', '.join(get_args(MapKind))}, got {maps!r}")
        if position_bias not in (True, False):
            raise ModelError(f"position_bias must be True or False, got {position_bias!r}")
        if position_bias and kind != "learnt":
            raise ModelError(f"position_bias is of learnt codes; these are {kind!r}")
        self.embedding_dimension = embedding_dimension
        self.m = m
        self.kind = kind
        self.maps = maps
        self.position_bias = position_bias
        self.codes: nn.Parameter | None = None
        self.biases: nn.Parameter | None = None
        self.linear_maps: nn.Parameter | None = None
        if kind == "learnt":
            self.codes = nn.Parameter(torch.randn(m, embedding_dimension) * INITIAL_CODE_SPREAD)
        if position_bias:
            self.biases = nn.Parameter(torch.zeros(m, DISTANCES))
        if maps != "none":
            number = self.number_of_codes if maps == "each" else 1
            self.linear_maps = nn.Parameter(torch.eye(embedding_dimension).repeat(number, 1, 1))

    @property
    def number_of_codes(self) -> int:
        """Number of vectors of a query."""
        return self.m + 1 if self.kind == "last-and-first" else self.m

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Turn token outputs into codes."""
        outputs, mask = features["token_embeddings"], features["attention_mask"].bool()
        y = self.attention(outputs, mask) @ outputs
        if self.linear_maps is not None:
            # y_i <- A_i y_i; a zero (absent) code stays zero.
            # As a product for each code: ONNX Runtime takes a millisecond for the einsum, and a fifth of one for this.
            y = (y.transpose(0, 1) @ self.linear_maps.transpose(1, 2)).transpose(0, 1)
        features["sentence_embedding"] = y
        return features

    def attention(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """Return the fraction of every output in each code, before its map: `(b, t, d) -> (b, m, t)`.

        For learnt codes it is `softmax_j(c_i . h_j + b_i(N - j))` over the real outputs, for others 1 at one output. It
        is zero everywhere for a code that is absent.
        """
        if self.codes is not None:
            logits = self.codes @ outputs.transpose(1, 2)
            if self.biases is not None:
                logits = logits + self.biases[:, distances(mask)].transpose(0, 1)
            return logits.masked_fill(~mask[:, None, :], torch.finfo(logits.dtype).min).softmax(-1)
        return self._chosen(mask).to(outputs.dtype)

    def _chosen(self, mask: Tensor) -> Tensor:
        """Which output each code is: `(b, m, t)`, true at one place, or at none where the code is absent."""
        lengths = mask.long().sum(dim=1, keepdim=True)
        # The place of each code among the real outputs, counted from the first.
        start = torch.zeros_like(lengths) if self.kind == "first" else (lengths - self.m).clamp(min=0)
        places = start + torch.arange(self.m, device=mask.device)
        if self.kind == "last-and-first":
            # In a text of m outputs or fewer, h_1 is among the last m already and must not count twice.
            first = torch.where(lengths > self.m, 0, -1)
            places = torch.cat([first, places], dim=1)
        counted = mask.long().cumsum(dim=1) - 1  # the place of each output, whichever side the padding is on
        return (counted[:, None, :] == places[:, :, None]) & mask[:, None, :]

    def get_embedding_dimension(self) -> int:
        """Return d, the dimension of each code."""
        return self.embedding_dimension

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings. Without a position bias none is named, so older models keep their fingerprints."""
        settings: dict[str, Any] = super().get_config_dict()
        return {name: value for name, value in settings.items() if name != "position_bias" or value}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write settings and weights to the module's own folder."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> Self:
        """Load the module from a folder of a model directory or hub repository."""
        hub = hub_arguments(kwargs)
        module = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **hub))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module, **hub)


def distances(mask: Tensor) -> Tensor:
    """Return how far each output stands from the last real one, in `DISTANCES` steps: `(b, t) -> (b, t)`.

    Counted from the end, because a long query is cut from its beginning: what is left keeps its place.

    >>> distances(torch.ones(1, 14, dtype=torch.bool)).tolist()
    [[10, 10, 9, 9, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0]]
    """
    real = mask.long()
    after = real.sum(dim=1, keepdim=True) - real.cumsum(dim=1)
    far = 8 + (4 * (after.clamp(min=8) / 8).log2()).long()
    return torch.where(after < 8, after, far).clamp(max=DISTANCES - 1)
