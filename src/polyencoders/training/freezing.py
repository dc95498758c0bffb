"""What of a model stays as it is while the rest is trained.

Knows modules and parameters. A frozen module also runs without dropout, as it will when it is used; that is the models'
own doing (`SavedModel.train`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from sentence_transformers.base.modules import Transformer
from torch import nn

from polyencoders.errors import TrainingError

CHOICES = "embeddings, all-but-top-K (K layers are trained), documents, backbone"


def freeze(model: nn.Module, what: str | Sequence[str]) -> None:
    """Freeze parts of a model; what is not named is trained.

    Parameters
    ----------
    model
        Any of ours.
    what
        One or several of `embeddings` (of tokens); `all-but-top-K`, as in `all-but-top-2`: embeddings and all layers
        but the last K; `documents`: the whole document side, so that vectors already stored stay valid (two towers are
        needed); `backbone`: every transformer, so that only codes and maps are trained.

    Raises
    ------
    TrainingError
        An unknown name, a tower that both sides share, or nothing left to train.
    """
    names = [what] if isinstance(what, str) else list(what)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for name in names:
        if name == "documents":
            continue
        for transformer in _transformers(model):
            if name == "backbone":
                transformer.requires_grad_(False)
            elif name == "embeddings":
                _embeddings(transformer).requires_grad_(False)
            elif match := re.fullmatch(r"all-but-top-(\d+)", name):
                _freeze_all_but_top(transformer, int(match[1]))
            else:
                raise TrainingError(f"cannot freeze {name!r}; what can be frozen: {CHOICES}")
    if "documents" in names:
        # Last, because a tower that both sides share must be frozen by then.
        _freeze_documents(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        more = (
            "give it learnt codes or maps (query_map=True, document_map=True), or " if hasattr(model, "route") else ""
        )
        raise TrainingError(
            f"with {', '.join(names)} frozen nothing of this {type(model).__name__} is left to train; {more}freeze less"
        )


def _freeze_documents(model: Any) -> None:
    if not hasattr(model, "route"):
        raise TrainingError(f"a {type(model).__name__} has no document side to freeze: it reads pairs")
    if model.shared_tower and any(parameter.requires_grad for parameter in model.route("document")[0].parameters()):
        raise TrainingError(
            "the document side cannot be frozen while queries share its tower: build the model with "
            "shared_tower=False, or freeze the backbone"
        )
    for module in model.route("document"):
        module.requires_grad_(False)


def _freeze_all_but_top(transformer: Transformer, trained: int) -> None:
    layers = _layers(transformer)
    if trained > len(layers):
        raise TrainingError(f"all-but-top-{trained}: the backbone has {len(layers)} layers")
    top = {weights for layer in layers[len(layers) - trained :] for weights in layer.parameters()}
    for weights in set(transformer.parameters()) - top:
        weights.requires_grad_(False)


def _layers(transformer: Transformer) -> nn.ModuleList:
    """The transformer's layers: its longest list of modules."""
    lists = [module for module in transformer.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise TrainingError(f"no list of layers was found in {type(transformer.model).__name__}")
    return max(lists, key=len)


def _embeddings(transformer: Transformer) -> nn.Module:
    # Position and type embeddings lie in the module `embeddings` of BERT and its relatives, beside those of tokens.
    embeddings: nn.Module = getattr(transformer.model, "embeddings", None) or transformer.model.get_input_embeddings()
    return embeddings


def _transformers(model: nn.Module) -> Iterable[Transformer]:
    found = [module for module in model.modules() if isinstance(module, Transformer)]
    if not found:
        raise TrainingError(f"a {type(model).__name__} has no transformer to freeze")
    return found
