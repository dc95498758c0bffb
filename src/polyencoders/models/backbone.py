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
    check_tokens(transformer, model_name_or_path)
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


def positions(transformer: Transformer) -> int | None:
    """Return how many tokens a backbone has positions for; None: as many as there are.

    RoBERTa and its like count positions from behind the padding's own: 514 of them are for 512 tokens.
    """
    for module in transformer.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    most = getattr(transformer.config, "max_position_embeddings", None)
    return int(most) if most else None


def check_tokens(transformer: Transformer, name: str) -> None:
    """Make a backbone's tokeniser and its weights fit, or raise a `ModelError` that says what is missing.

    Texts are cut where the positions end. A decoder pads with its end of text: what is padded is masked.
    """
    tokenizer: Any = transformer.tokenizer
    if not callable(tokenizer):
        raise ModelError(f"{name} has no tokeniser: copy its files (tokenizer.json, tokenizer_config.json) beside it")
    most = positions(transformer)
    if most is not None and not (transformer.max_seq_length and transformer.max_seq_length <= most):
        transformer.max_seq_length = most
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"the tokeniser of {name} has no padding and no end of text: give it a pad_token and save it"
            )
        logger.warning("the tokeniser of %s has no pad_token: %s, its end of text, pads", name, tokenizer.eos_token)
        tokenizer.pad_token = tokenizer.eos_token
    embeddings = getattr(transformer.model, "get_input_embeddings", lambda: None)()
    if isinstance(embeddings, nn.Embedding) and len(tokenizer) > embeddings.num_embeddings:
        raise ModelError(
            f"the tokeniser of {name} has {len(tokenizer):,} tokens and its weights {embeddings.num_embeddings:,}: "
            "they are not of one model; copy the tokeniser that belongs to the weights"
        )
