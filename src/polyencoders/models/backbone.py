"""Takes a backbone apart: its transformer, and how sentence-transformers reduced the transformer's outputs.

A backbone is any Hugging Face encoder or a sentence-transformers model. Its own pooling and normalisation are the
defaults of the document side, so that document vectors are the backbone's own.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import nn

from polyencoders.errors import ModelError
from polyencoders.models.reductions import reduction_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backbone:
    """A transformer, and how sentence-transformers reduced its outputs, if it did."""

    transformer: Transformer
    reduction: str
    normalize: bool


def as_backbone(modules: Sequence[nn.Module], config: Mapping[str, Any], model_name_or_path: str) -> Backbone:
    """Return the backbone in a sentence-transformers model's modules.

    Its vectors count as normalised where it normalises them or compares them by cosine, which is its default. The
    outputs of a plain encoder (an empty config) are left as they are, as in the paper. Raises a `ModelError` where the
    modules do not begin with a Transformer.
    """
    transformer, *rest = modules
    if not isinstance(transformer, Transformer):
        raise ModelError(
            f"{model_name_or_path} begins with a {type(transformer).__name__} module; "
            "a backbone is a Hugging Face encoder or a sentence-transformers model that begins with a Transformer"
        )
    # Padding is handled by masks. Flattened batches would need a second path through every reduction.
    transformer.unpad_inputs = False
    pooling = next((module for module in rest if isinstance(module, Pooling)), None)
    reduction = reduction_name(pooling) if pooling is not None else None
    left_out = [module for module in rest if not isinstance(module, Normalize) and module is not pooling]
    if left_out or reduction is None:
        logger.warning(
            "%s has %s after its transformer; document vectors are made by %s instead, so they differ from its own",
            model_name_or_path,
            ", ".join(type(module).__name__ for module in rest) or "nothing",
            reduction or "the mean of all outputs",
        )
    compared_by_cosine = bool(config) and config.get("similarity_fn_name") in (None, "cosine")
    return Backbone(
        transformer=transformer,
        reduction=reduction or "mean",
        normalize=compared_by_cosine or any(isinstance(module, Normalize) for module in rest),
    )
