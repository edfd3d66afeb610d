"""The hardware that networks compute on."""

from __future__ import annotations

import torch


def fast_in_bf16(device_type: str) -> bool:
    """Whether the hardware multiplies in bf16; elsewhere bf16 is emulated and slower than fp32."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device_type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
