"""Names a part of a model by its weights and settings. Caches and indexes are keyed by the name."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from sentence_transformers.base.modules import Transformer
from sentence_transformers.base.modules.module import Module
from torch import nn


def fingerprint(modules: Iterable[nn.Module], settings: Mapping[str, Any], leave_out: Collection[str] = ()) -> str:
    """Return 32 hexadecimal digits that depend on the modules' weights, names and types, and on the settings.

    Names in `leave_out` are skipped in the modules' configurations, because they decide nothing here.

    >>> first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> fingerprint([first], {}) == fingerprint([first], {})
    True
    >>> fingerprint([first], {}) == fingerprint([second], {})
    False
    >>> fingerprint([first], {}) == fingerprint([first], {"a": 1})
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for module in modules:
        configuration = dict(module.get_config_dict()) if isinstance(module, Module) else {}
        if isinstance(module, Transformer):
            # The tokeniser keeps it, so the module's own configuration does not have it.
            configuration["max_seq_length"] = module.max_seq_length
        for name in leave_out:
            configuration.pop(name, None)
        digest.update(f"{type(module).__qualname__} {json.dumps(configuration, sort_keys=True, default=str)}".encode())
        for name, tensor in module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
