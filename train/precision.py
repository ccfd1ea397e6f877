"""In which precision networks are trained and scored: bfloat16 where the hardware has it, else float32."""

from __future__ import annotations

import torch


def autocast(device: str | torch.device, wanted: bool = True) -> torch.autocast:
    """Return a context that computes in bfloat16 where `device` is fast at it and it is `wanted`.

    bfloat16 needs no scaling of the loss; a processor without it (AVX-512 has it here) would only lose time.
    """
    kind = torch.device(device).type
    able = kind == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(kind, torch.bfloat16, enabled=wanted and able)
