"""`red`: token outputs of one text in, one vector out (Humeau et al. 2020, section 4.2).

The first output, the mean of all and the largest are sentence-transformers' own `Pooling`; the mean of the first n and
the average of query codes are here. Knows tensors and masks; nothing of towers or scores.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

from polyencoders.checks import check_whole_number
from polyencoders.errors import ModelError

Reduction = Literal["first", "mean", "mean-first-n", "max", "attention"]

_POOLING_MODES = {"first": "cls", "mean": "mean", "max": "max"}


def reduction_module(reduction: str, embedding_dimension: int, n: int | None) -> Module:
    """The module that reduces `(b, t, d)` token outputs to `(b, d)`, for every reduction but `attention`.

    Raises
    ------
    ModelError
        There is no reduction of that name; `attention` is none of a document's.
    """
    if reduction == "mean-first-n":
        return MeanOfFirst(embedding_dimension, n)
    if reduction == "attention":
        raise ModelError("the reduction attention is of a bi-encoder's queries; documents are first, mean, ...")
    if reduction not in _POOLING_MODES:
        raise ModelError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
    return Pooling(embedding_dimension, _POOLING_MODES[reduction])


def reduction_name(module: nn.Module) -> str | None:
    """The name of a module's reduction, or None where it is not one.

    Examples
    --------
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
    """The mean of the first n outputs; of all, in a text of fewer. `(b, t, d) -> (b, d)`.

    Input features: `token_embeddings (b, t, d)`, `attention_mask (b, t)`, padding on either side.
    Output feature: `sentence_embedding (b, d)`.

    Parameters
    ----------
    embedding_dimension
        d of the token outputs.
    n
        How many outputs, at least 1.

    Raises
    ------
    ModelError
        n is below 1, or not given.
    """

    config_keys: list[str] = ["embedding_dimension", "n"]  # noqa: RUF012 as in the base class

    def __init__(self, embedding_dimension: int, n: int | None) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.n = check_whole_number("n, of the reduction mean-first-n,", n)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Token outputs to their mean."""
        outputs, mask = features["token_embeddings"], features["attention_mask"].bool()
        among_first = mask & (mask.cumsum(dim=1) <= self.n)
        weights = among_first / among_first.sum(dim=1, keepdim=True).clamp(min=1)
        features["sentence_embedding"] = (outputs * weights[..., None].to(outputs.dtype)).sum(dim=1)
        return features

    def get_embedding_dimension(self) -> int:
        """d, of the mean."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Settings, to the module's own folder."""
        self.save_config(output_path)


class AverageOfCodes(Module):
    """The mean of a query's codes, `(b, m, d) -> (b, d)`: the reduction `attention`, one vector, no new search.

    It is the control of every poly-encoder: the same codes without the document's attention over them.
    """

    config_keys: list[str] = []  # noqa: RUF012 as in the base class

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Codes to their mean."""
        features["sentence_embedding"] = features["sentence_embedding"].mean(dim=1)
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """An empty configuration: there is nothing to know."""
        self.save_config(output_path)
