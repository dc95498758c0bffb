"""Whether bf16 pays on this machine. Knows processors; nothing of models."""

from __future__ import annotations

import torch


def bf16_is_native(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware: then training in it is faster and no worse."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return False
