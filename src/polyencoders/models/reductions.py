"""Reduces the token outputs of a text to one vector: `red` in Humeau et al. 2020, section 4.2.

The first output, the mean and the maximum are sentence-transformers' own `Pooling`.
"""

from typing import Any, Literal, get_args

from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from polyencoders.checks import check_whole_number
from polyencoders.errors import ModelError

Reduction = Literal["first", "mean", "mean-first-n", "max", "attention"]

_POOLING_MODES = {"first": "cls", "mean": "mean", "max": "max"}


def reduction_module(reduction: str, embedding_dimension: int, n: int | None) -> Module:
    """Return the module that reduces `(b, t, d)` token outputs to `(b, d)`, for every reduction but `attention`."""
    if reduction == "mean-first-n":
        return MeanOfFirst(embedding_dimension, n)
    if reduction == "attention":
        raise ModelError("the reduction attention is of a bi-encoder's queries; documents are first, mean, ...")
    if reduction not in _POOLING_MODES:
        raise ModelError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
    return Pooling(embedding_dimension, _POOLING_MODES[reduction])


def reduction_name(module: nn.Module) -> str | None:
    """Return the name of a module's reduction, or None where it is not one.

    >>> reduction_name(Pooling(8, "cls"))
    'first'
    """
    if isinstance(module, MeanOfFirst):
        return "mean-first-n"
    if isinstance(module, AverageOfCodes):
        return "attention"
    if isinstance(module, Pooling):
        return {mode: name for name, mode in _POOLING_MODES.items()}.get(str(module.pooling_mode))
    return None


class MeanOfFirst(Module):
    """Returns the mean of the first n outputs, or of all where there are fewer: `(b, t, d) -> (b, d)`.

    Input features: `token_embeddings (b, t, d)`, `attention_mask (b, t)`, padding on either side.
    Output feature: `sentence_embedding (b, d)`.
    """

    config_keys: list[str] = ["embedding_dimension", "n"]  # noqa: RUF012 as in the base class

    def __init__(self, embedding_dimension: int, n: int | None) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.n = check_whole_number("n, of the reduction mean-first-n,", n)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Reduce token outputs to their mean."""
        outputs, mask = features["token_embeddings"], features["attention_mask"].bool()
        among_first = mask & (mask.cumsum(dim=1) <= self.n)
        weights = among_first / among_first.sum(dim=1, keepdim=True).clamp(min=1)
        features["sentence_embedding"] = (outputs * weights[..., None].to(outputs.dtype)).sum(dim=1)
        return features

    def get_embedding_dimension(self) -> int:
        """Return d, the dimension of the mean."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the settings to the module's own folder."""
        self.save_config(output_path)


class AverageOfCodes(Module):
    """Returns the mean of a query's codes, `(b, m, d) -> (b, d)`: the reduction `attention`.

    It is the control for every poly-encoder: the same codes, without the document's attention over them.
    """

    config_keys: list[str] = []  # noqa: RUF012 as in the base class

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Reduce codes to their mean."""
        features["sentence_embedding"] = features["sentence_embedding"].mean(dim=1)
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write an empty configuration."""
        self.save_config(output_path)
