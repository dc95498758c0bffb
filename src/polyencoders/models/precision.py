"""Tells whether bf16 pays on this machine, and handles weights that are stored in half precision."""

import torch
from torch import nn


def bf16_is_native(device: torch.device) -> bool:
    """Tell whether the device multiplies bf16 in hardware: then training in it is faster and no worse."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return False


def autocast_to_bf16(model: nn.Module, device: torch.device, bf16: bool) -> torch.autocast:
    """Compute in bf16 within the block, if that is asked and the weights are float32.

    Autocast keeps normalised values in the weights' precision, and on a CPU refuses to join them with float16.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and not _has_half(model))


def in_full_precision(model: nn.Module) -> None:
    """Cast weights of float16 or bfloat16, in which many backbones are stored, to float32, in place, to train them.

    A step changes a weight by a thousandth or less, which half precision rounds away.
    """
    if _has_half(model):
        model.float()


def _has_half(model: nn.Module) -> bool:
    return any(weights.dtype in (torch.float16, torch.bfloat16) for weights in model.parameters())
